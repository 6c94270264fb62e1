"""Rounding, measured: how far a value moves where nothing but the rounding in it changes.

Where the terms of a gradient cancel, what is left is their rounding: two right computations of it agree in nothing, and
a tolerance relative to it means nothing. The terms cannot be seen from outside. But a few units in the last place
away, where every real value is the same, the rounding is another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from gradsmith.check.compare import same_value, same_values, scale
from gradsmith.check.inputs import moved
from gradsmith.check.isolation import Raised
from gradsmith.check.subject import Subject

Upstream = Sequence[torch.Tensor | None]
Quantity = Callable[[Subject, Upstream], Sequence[Any]]

SAMPLES = 4  # in either direction
UNITS = 2  # in the last place, from one sample to the next
MARGIN = 30  # another order of the same sum may round this much worse than the samples did


def rounding_in(subject: Subject, quantity: Quantity, upstream: Upstream | None = None) -> list[float]:
    """How far rounding may move an element of each tensor of `quantity(subject, upstream)`, the margin included.

    The inputs and the upstream are scaled by one factor close to 1, so that zeros, signs, ties and the order of values
    stay as they are. Of growing and shrinking the calmer one counts, lest a jump at a kink be taken for rounding.
    """
    given = subject.base_upstream if upstream is None else upstream
    here = quantity(subject, given)
    sides = [list(_moves(subject, given, here, quantity, unit)) for unit in (UNITS, -UNITS)]
    worst = [[max(moves) for moves in zip(*samples, strict=True)] for samples in sides if samples]
    return [MARGIN * min(moves) for moves in zip(*worst, strict=True)] if worst else [0.0] * len(here)


def _moves(
    subject: Subject, given: Upstream, here: Sequence[Any], quantity: Quantity, unit: int
) -> Iterator[list[float]]:
    for sample in range(1, SAMPLES + 1):
        factor = 1 + sample * unit * subject.tolerance.eps
        inputs = moved(subject.inputs, subject.arguments, lambda _, x, factor=factor: x * factor)  # type: ignore[misc]
        nearby = Subject(subject.case, inputs, label=subject.label, unit=factor)
        try:
            there = quantity(nearby, [None if up is None else up * factor for up in given])
        except Raised:
            continue
        yield [_distance(old, new) for old, new in zip(here, there, strict=True)]


def _distance(old: Any, new: Any) -> float:
    """How far apart two tensors are at most; nothing where one is no tensor, or infinite."""
    if not isinstance(old, torch.Tensor) or not isinstance(new, torch.Tensor) or old.shape != new.shape:
        return 0.0
    return scale(torch.nan_to_num(new.detach() - old.detach(), 0.0, 0.0, 0.0)) if old.dtype != torch.bool else 0.0


def agree(
    subject: Subject, before: Sequence[Any], after: Sequence[Any], quantity: Quantity, upstream: Upstream | None = None
) -> bool:
    """Whether `before` and `after`, two computations of `quantity`, are the same as far as rounding lets them be."""
    exact = 100 * subject.tolerance.exact
    if same_values(before, after, exact):
        return True
    if len(before) != len(after):
        return False
    floors = rounding_in(subject, quantity, upstream)
    return all(same_value(a, b, exact, floor) for a, b, floor in zip(before, after, floors, strict=True))


def outputs(subject: Subject, _: Upstream) -> tuple[Any, ...]:
    """The quantity that a forward computes."""
    return subject.base.outputs


def gradients(subject: Subject, upstream: Upstream) -> Sequence[Any]:
    """The quantity that a backward computes."""
    return subject.gradients(upstream)


def gradient(position: int) -> Quantity:
    """The gradient of one argument alone."""
    return lambda subject, upstream: [gradients(subject, upstream)[position]]
