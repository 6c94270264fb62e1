"""Variations of a case's inputs: other sizes, other ranks, optional arguments left out.

Sizes that are equal in the case stay equal: a size is a symbol, renamed in every input at once, also where it
stands as a number (`T=6` beside six steps).
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import torch

from gradsmith.check._private import uses_setup_context
from gradsmith.check.deliberate import depends
from gradsmith.check.isolation import Raised
from gradsmith.check.judge import judge
from gradsmith.check.subject import Subject
from gradsmith.check.tree import is_float

MOST_SYMBOLS = 4
LARGE = 2**15  # inputs of more elements than this are varied at fewer
FEWER = (8, 12, 16, 20)  # the sizes that large ones become: divisible, as heads and groups want them


def resized(subject: Subject) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """The inputs with one size after the other become 1 and one more than it was; an empty batch besides."""
    tensors = [value for value in subject.inputs if isinstance(value, torch.Tensor)]
    symbols = list(dict.fromkeys(size for value in tensors for size in value.shape if size > 1))[:MOST_SYMBOLS]
    batch = next((value.shape[0] for value in tensors if value.dim()), None)
    for size in symbols:
        for new in (1, 0, size + 1):
            if (size > 64 and new > size) or (new == 0 and size != batch):
                continue
            yield f"size {size} -> {new}", tuple(_renamed(value, size, new) for value in subject.inputs)


def reduced(subject: Subject) -> Subject:
    """The case at fewer elements, for what takes many calls; the subject itself where that is small, or cannot be
    had: the forward refuses other sizes, or the gradients there are not right as well.
    """
    smaller = subject.cached("reduced", lambda: _reduced(subject))
    if smaller is None:
        return subject
    smaller.variations, smaller.refused = subject.variations, subject.refused
    return smaller


def labelled(start: Subject, label: str) -> str:
    """What a variation of `start` is called, with what `reduced` has made of the case."""
    return label if start.label == "as given" else f"{label} ({start.label})"


def _reduced(subject: Subject) -> Subject | None:
    tensors = [value for value in subject.inputs if isinstance(value, torch.Tensor)]
    if sum(value.numel() for value in tensors) <= LARGE:
        return None
    sizes = {size for value in tensors for size in value.shape}
    large = sorted((size for size in sizes if size > max(FEWER)), reverse=True)
    inputs, changes = subject.inputs, []
    for old, new in zip(large, (size for size in FEWER if size not in sizes), strict=False):
        inputs = tuple(_renamed(value, old, new) for value in inputs)
        changes.append(f"{old} -> {new}")
    smaller = subject.at(inputs, f"sizes {', '.join(changes)}")
    if not changes or not smaller.base_runs or smaller.failure is not None or not smaller.base.differentiable:
        return None
    right = all(judge(smaller, i).verdict == "right" for i in subject.arguments if judge(subject, i).verdict == "right")
    return smaller if right else None


def _renamed(value: Any, size: int, new: int) -> Any:
    """`value` with every dimension of `size` made `new`; of an empty batch, the leading one alone."""
    if _stands_for(value, size):
        return new
    if not isinstance(value, torch.Tensor):
        return value
    result = value.detach()
    for dim, old in enumerate(value.shape):
        if old == size and (new or dim == 0):
            result = result.index_select(dim, torch.arange(new, device=value.device) % old)
    if not is_float(value) and value.dtype != torch.bool and value.numel() and int(value.max()) < size:
        # Probably an index into something of this size: keep it in range.
        result = result % new if new else result
    elif is_float(value) and new > size:
        result = result * (1 + 0.01 * torch.arange(result.numel()).reshape(result.shape).to(result) / result.numel())
    if _is_symmetric(value):  # a covariance, say, whose formulas rest on that
        result = (result + result.mT) / 2
    return result.clone()


def _is_symmetric(value: torch.Tensor) -> bool:
    square = is_float(value) and value.dim() >= 2 and value.shape[-1] == value.shape[-2] > 1
    return square and torch.allclose(value, value.mT)


def _stands_for(value: Any, size: int) -> bool:
    """Whether a number is this size: below 3 it more likely says which dimension."""
    return type(value) is int and value == size > 2


def reranked(subject: Subject) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """The first tensor, or all that take a gradient, with a leading dimension more; the first with one less.

    What goes with the first element for element goes with it here, too: a target that its prediction is
    broadcast against is another call than the one that was given.
    """
    floats = [i for i, value in enumerate(subject.inputs) if is_float(value)]
    floats = floats[:1] + [i for i in floats[1:] if subject.needs[i] or depends(subject, i)]
    if not floats:
        return
    leading = subject.inputs[floats[0]].shape[:1]
    if leading and any(_stands_for(value, leading[0]) for value in subject.inputs):
        return
    first = (floats[0], *(i for i in floats[1:] if _paired(subject, floats[0], i)))
    for which in dict.fromkeys((first, tuple(floats))):
        moved = list(subject.inputs)
        for i in which:
            value = moved[i].detach()
            moved[i] = torch.stack([value, value * 0.9 + 0.01 * value.abs()])
        yield f"a leading dimension of 2 for {_names(subject, which)}", tuple(moved)
    value = subject.inputs[floats[0]]
    if value.dim() > 0 and value.shape[0] > 0:
        moved = list(subject.inputs)
        for i in first:
            moved[i] = moved[i].detach()[0].clone()
        yield f"the leading dimension of {_names(subject, first)} left out", tuple(moved)


def _names(subject: Subject, positions: tuple[int, ...]) -> str:
    return ", ".join(f"`{subject.argument(i)}`" for i in positions)


def _paired(subject: Subject, one: int, other: int) -> bool:
    """Whether two inputs of one shape go together element for element: the first slice of either moves the
    same outputs. The factors of a matrix product, both square, do not."""
    if subject.inputs[one].shape != subject.inputs[other].shape or not subject.inputs[one].dim():
        return False
    try:
        moved = [_moved_by_first_slice(subject, position) for position in (one, other)]
    except Raised:
        return False
    return all(a.shape == b.shape and torch.equal(a, b) for a, b in zip(*moved, strict=False))


def _moved_by_first_slice(subject: Subject, position: int) -> list[torch.Tensor]:
    """Which elements of the outputs change with the first slice of an input."""
    moved = list(subject.inputs)
    moved[position] = moved[position].detach().clone()
    moved[position][:1] = 1.1 * moved[position][:1] + 0.1
    after = subject.forward(tuple(moved), needs=tuple(False for _ in moved)).outputs
    pairs = zip(subject.base.outputs, after, strict=False)
    return [old != new for old, new in pairs if is_float(old) and is_float(new) and old.shape == new.shape]


def without_optional(subject: Subject) -> Iterator[tuple[str, int, tuple[Any, ...]]]:
    """Each tensor whose parameter's default is None, left out: what, its position, the inputs."""
    cls = subject.case.function_class
    if cls is None:
        return
    parameters = list(inspect.signature(cls.forward).parameters.values())
    if not uses_setup_context(cls):
        parameters = parameters[1:]
    for position, (parameter, value) in enumerate(zip(parameters, subject.inputs, strict=False)):
        if parameter.default is None and isinstance(value, torch.Tensor):
            moved = list(subject.inputs)
            moved[position] = None
            yield parameter.name, position, tuple(moved)
