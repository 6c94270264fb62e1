"""Which precision a case is checked in: the finest that its Function takes, keeps and computes in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from gradsmith.check.case import Case
from gradsmith.check.inputs import moved, single_of, spread_like, to_dtype, working_dtype
from gradsmith.check.isolation import SEED, Raised
from gradsmith.check.tree import is_float
from gradsmith.check.watch import Overdue

Outputs = Callable[[tuple[Any, ...]], tuple[Any, ...]]  # of the Function at some inputs


def precise(case: Case, outputs_at: Outputs) -> tuple[torch.dtype, tuple[Any, ...]]:
    """The inputs in float64 if the Function takes and keeps it; else in float32; else as they were given.

    Raises:
        Raised: what the Function itself raises on what it was given, or that it does not return.
    """
    given = tuple(case.inputs)
    if not any(is_float(value) for value in given):
        return torch.float64, given
    for dtype in (torch.float64, torch.float32):
        inputs = to_dtype(given, dtype)
        try:
            outputs = outputs_at(inputs)
        except Raised as raised:
            if isinstance(raised.error, Overdue):
                raise  # it will not return in another precision, either
            continue
        kept = [out for out in outputs if is_float(out)]
        if any(out.dtype not in (dtype, dtype.to_complex()) for out in kept):
            continue
        if dtype is torch.float32 or not _single_inside(case, outputs_at, inputs, kept):
            return dtype, inputs
    outputs_at(given)
    return working_dtype(given), given


def _single_inside(case: Case, outputs_at: Outputs, inputs: tuple[Any, ...], before: list[torch.Tensor]) -> bool:
    """Whether float64 goes in and comes out but the values between are of single precision.

    Then outputs that have moved still all fit float32, which values computed in float64 do not.
    """
    generator = torch.Generator().manual_seed(SEED)
    wanted = [i for i, need in enumerate(case.needs_grad) if need and isinstance(inputs[i], torch.Tensor)]
    elsewhere = moved(inputs, wanted, lambda _, x: x * (1 + 1e-3 * spread_like(x, generator)))
    try:
        after = [out for out in outputs_at(elsewhere) if is_float(out)]
    except Raised:
        return False
    changed = sum(int((old != new).sum()) for old, new in zip(before, after, strict=False) if old.shape == new.shape)
    total = sum(out.numel() for out in after)
    single = all(torch.equal(out, out.to(single_of(out)).to(out.dtype)) for out in after)
    return 3 * changed > total > 0 and single
