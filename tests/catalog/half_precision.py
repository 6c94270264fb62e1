"""Values and gradients of an op in each dtype, held against float64 at the same rounded arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
UNIT = {torch.float32: 2**-22, torch.bfloat16: 2**-8, torch.float16: 2**-10}


def results(function: Callable[..., Any], inputs: Sequence[Tensor], rounded: torch.dtype | None = None) -> list[Tensor]:
    """The outputs of `function`, and its gradients under random upstream gradients, rounded to a dtype."""
    leaves = [value.detach().clone().requires_grad_() for value in inputs]
    outs = function(*leaves)
    outs = list(outs) if isinstance(outs, tuple) else [outs]
    generator = torch.Generator().manual_seed(0)
    upstream = [
        torch.randn(out.shape, generator=generator).to(rounded or leaves[0].dtype).to(out.dtype) for out in outs
    ]
    return [out.detach() for out in outs] + list(torch.autograd.grad(outs, leaves, upstream))


def assert_within_rounding(
    ours: Callable[..., Any], exact: Callable[..., Any], inputs: Sequence[Tensor], times: float = 4
) -> None:
    """`times` roundings of each result, relative to its norm, and one of the inputs; `exact` is called in float64."""
    dtype = inputs[0].dtype
    floor = UNIT[dtype] * max(float(value.abs().max()) for value in inputs if value.numel())
    for got, want in zip(results(ours, inputs), results(exact, [v.double() for v in inputs], dtype), strict=True):
        assert got.dtype == dtype
        assert got.shape == want.shape
        off = (got.double() - want).norm().item()
        assert off <= times * UNIT[dtype] * want.norm().item() + floor, (off, want.norm().item())
