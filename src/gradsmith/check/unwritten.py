"""Memory that nothing has written: `torch.empty` and its like, handed on as it came.

What stands there is chance, zeros most of the time, so that two runs may well agree. So it is filled as it is
allocated, once with zeros and once with NaN: what comes out otherwise was never written. torch has the like for
debugging, and the script of the finding uses that: https://docs.pytorch.org/docs/stable/deterministic.html
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from gradsmith.check._private import DispatchMode
from gradsmith.check.compare import same_value
from gradsmith.check.inputs import Tensors
from gradsmith.check.isolation import Raised
from gradsmith.check.subject import Subject

ALLOCATE = {"empty", "empty_like", "empty_strided", "empty_permuted", "new_empty", "new_empty_strided"}

Ran = tuple[tuple[Any, ...], Tensors]  # outputs and gradients


@dataclass(frozen=True)
class Unwritten:
    """Where it comes out: in an output, or in the gradient of the argument at `position`."""

    output: int | None
    position: int | None
    elements: int
    of: int
    first: list[int]
    raised: Raised | None = None  # it raises, where the memory holds other values

    @property
    def in_forward(self) -> bool:
        return self.output is not None


def unwritten(subject: Subject) -> Unwritten | None:
    """What of the outputs or the gradients was never written, if anything."""
    return subject.cached("unwritten", lambda: _look(subject))


def _look(subject: Subject) -> Unwritten | None:
    try:
        plain = _run(subject, nan=False)
        try:
            filled = _run(subject, nan=True)
        except Raised as raised:
            return Unwritten(0 if raised.stage == "forward" else None, None, 0, 0, [], raised)
        found = _first_difference(subject, plain, filled)
        by_itself = found is not None and _first_difference(subject, plain, _run(subject, nan=False)) is not None
    except Raised:
        return None  # zeros, too, may be what it cannot bear, and so may be the mode
    return None if by_itself else found


def _first_difference(subject: Subject, plain: Ran, filled: Ran) -> Unwritten | None:
    for place, (before, after) in enumerate(zip(plain[0], filled[0], strict=True)):
        if _differ(subject, before, after):
            return Unwritten(place, None, *_where(before, after))
    for position, (before, after) in enumerate(zip(plain[1], filled[1], strict=True)):
        if _differ(subject, before, after):
            return Unwritten(None, position, *_where(before, after))
    return None


def _run(subject: Subject, *, nan: bool) -> Ran:
    with _Filled(nan):
        run = subject.forward()
        return run.outputs, subject.backward(run, subject.base_upstream)


class _Filled(DispatchMode):
    """Memory that torch's own `empty` and its like allocate holds NaN, and the largest integers; or zeros."""

    def __init__(self, nan: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.nan = nan

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func.overloadpacket.__name__ in ALLOCATE and isinstance(out, torch.Tensor):
            out.fill_(_strange(out.dtype) if self.nan else 0)
        return out


def _strange(dtype: torch.dtype) -> float | int | bool:
    if dtype.is_floating_point or dtype.is_complex:
        return float("nan")
    return True if dtype == torch.bool else torch.iinfo(dtype).max


def _differ(subject: Subject, plain: Any, filled: Any) -> bool:
    return not same_value(plain, filled, 10 * subject.tolerance.exact)


def _where(plain: Any, filled: Any) -> tuple[int, int, list[int]]:
    """How many elements are others, of how many, and the first of them."""
    if not isinstance(plain, torch.Tensor) or not isinstance(filled, torch.Tensor) or plain.shape != filled.shape:
        return 1, 1, []
    places = (~torch.isclose(plain.detach(), filled.detach(), equal_nan=True)).nonzero()
    return len(places), plain.numel(), [int(index) for index in places[0]] if len(places) else []
