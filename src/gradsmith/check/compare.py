"""Whether two runs gave the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from gradsmith.check.tree import is_float


def same_values(before: Sequence[Any], after: Sequence[Any], exact: float) -> bool:
    """Whether two runs gave the same: None beside None, tensors within `exact` of their scale, NaN equal to
    NaN."""
    return len(before) == len(after) and all(
        same_value(old, new, exact) for old, new in zip(before, after, strict=True)
    )


def same_value(before: Any, after: Any, exact: float, floor: float = 0.0) -> bool:
    """`same_values` for one value; a gradient that is None is the same as one of zeros. `floor` is how far apart they
    may be whatever their scale."""
    if before is None or after is None:
        other = after if before is None else before
        return other is None or (isinstance(other, torch.Tensor) and scale(other) <= floor)
    if not isinstance(before, torch.Tensor) or not isinstance(after, torch.Tensor):
        return True
    if before.shape != after.shape:
        return False
    old, new = before.detach(), after.detach()
    if not is_float(old):
        return torch.equal(old, new)
    finite = torch.isfinite(old)
    if not torch.equal(finite, torch.isfinite(new)):
        return False
    size = scale(torch.where(finite, old, torch.zeros_like(old)))
    off = scale(torch.where(finite, old - new, torch.zeros_like(old)))
    return off <= exact * size + floor


def scale(tensor: torch.Tensor) -> float:
    """The size of the largest element; 0 for an empty tensor."""
    return float(tensor.detach().abs().max()) if tensor.numel() else 0.0
