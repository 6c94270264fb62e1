"""Tolerances, relative to the scale of the gradient, for each precision in which a Function is checked."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Tolerance:
    """How far a gradient may be from the truth: `relative` to each element, `floor` to the scale of the
    argument."""

    relative: float
    floor: float
    exact: float  # how far two computations of the same thing may be apart, relative to its scale
    step: float  # the first step of a difference, relative to the size of the input
    eps: float


TOLERANCES = {
    torch.float64: Tolerance(relative=1e-4, floor=1e-7, exact=1e-11, step=1e-3, eps=2.3e-16),
    torch.float32: Tolerance(relative=3e-3, floor=3e-4, exact=1e-4, step=3e-2, eps=1.2e-7),
    torch.float16: Tolerance(relative=5e-2, floor=2e-2, exact=2e-2, step=2e-1, eps=1e-3),
    torch.bfloat16: Tolerance(relative=1e-1, floor=5e-2, exact=1e-1, step=3e-1, eps=8e-3),
}
