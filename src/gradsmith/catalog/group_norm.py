"""Group norm: the channels of an example normalised in groups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from gradsmith.catalog.rows import accumulation, parameter, watched
from gradsmith.define.keep import keep
from gradsmith.define.op import op

_forward: Any = torch.ops.aten.native_group_norm.default
_backward: Any = torch.ops.aten.native_group_norm_backward.default
Needs = Mapping[str, bool]
Gradients = tuple[Tensor | None, Tensor | None, Tensor | None]


@op
def group_norm(
    input: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """Groups of channels less their mean, over their standard deviation: as `torch.nn.functional.group_norm`.

    With m and s² the mean and variance of a group of D elements, C/G channels at all places of an example,
    r = 1/√(s² + eps) and n = (x - m) r, the output is n w + b, with a w and b for each channel. As for `layer_norm`,
    with h = g w for the upstream gradient g,

        ∂L/∂x = r (h - mean(h) - n mean(h n))        ∂L/∂w_c = Σ g n        ∂L/∂b_c = Σ g

    where the means are over a group, and the sums over all examples and places of a channel.

    Args:
        input: (N, C, *), of any strides; a floating-point dtype. Of half and bfloat16 all sums are taken in float32.
        num_groups: a divisor of C.
        weight, bias: (C,), or None.
        eps: is added to the variance.

    Returns:
        A tensor of the shape and dtype of input.

    Saves: input, weight, and the mean and reciprocal deviation of each group, as torch does. Source: Wu and He,
    https://arxiv.org/abs/1803.08494.

    Raises RuntimeError where the shapes do not fit together, and ValueError where a group has a single element.

    >>> group_norm(torch.tensor([[1.0, 3.0, 0.0, 8.0]]), 2)
    tensor([[-1.0000,  1.0000, -1.0000,  1.0000]])
    """
    _check(input, num_groups, weight, bias)
    out, mean, rstd = _normalised(input, num_groups, weight, bias, eps)
    return keep(out, mean=mean, rstd=rstd)  # type: ignore[return-value]  # an op unpacks it


@group_norm.vjp("input", "weight", "bias")
def _(
    grad: Tensor,
    input: Tensor,
    num_groups: int,
    weight: Tensor | None,
    bias_dtype: torch.dtype | None,
    eps: float,
    mean: Tensor,
    rstd: Tensor,
    needs: Needs,
) -> Gradients:
    if watched() or not input.numel():
        return _differentiably(grad, input, num_groups, weight, eps)
    wide, x = accumulation(input.dtype), _dense(input)
    upstream = grad.contiguous(memory_format=_memory_format(x))
    statistics = mean.contiguous(), rstd.contiguous()
    wanted = [needs["input"], needs["weight"], needs["bias"]]
    scale = parameter(weight, 1, x.shape[1:2], x)  # aten needs a weight to give the gradient of the bias
    if not x.is_cpu:
        upstream, x = upstream.to(wide), x.to(wide)
    return _backward(upstream, x, *statistics, scale, *_sizes(x), num_groups, wanted)  # type: ignore[no-any-return]


def _normalised(
    input: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Output, and mean and reciprocal deviation of each group, in float32 or more."""
    x = _dense(input if input.is_cpu and not watched() else input.to(accumulation(input.dtype)))
    scale, shift = parameter(weight, 1, x.shape[1:2], x), parameter(bias, 0, x.shape[1:2], x)
    out, mean, rstd = _forward(x, scale, shift, *_sizes(x), groups, eps)
    return out.to(input.dtype), mean, rstd


def _differentiably(grad: Tensor, input: Tensor, groups: int, weight: Tensor | None, eps: float) -> Gradients:
    """The formulas written out: aten's function for them has no derivative."""
    wide = accumulation(input.dtype)
    count, channels = input.shape[:2]
    shape = count, groups, channels // groups, _sizes(input)[2]
    x, upstream = input.to(wide).reshape(shape), grad.to(wide).reshape(shape)
    centred = x - x.mean((2, 3), keepdim=True)
    rstd = (centred.square().mean((2, 3), keepdim=True) + eps).rsqrt()
    normed = centred * rstd
    arriving = upstream if weight is None else upstream * weight.to(wide).reshape(groups, -1, 1)
    level = arriving.mean((2, 3), keepdim=True)
    dx = rstd * (arriving - level - normed * (arriving * normed).mean((2, 3), keepdim=True))
    dw, db = (value.sum((0, 3)).reshape(channels) for value in (upstream * normed, upstream))
    return dx.reshape(input.shape), dw, db


def _sizes(input: Tensor) -> tuple[int, int, int]:
    """Examples, channels and places."""
    return input.shape[0], input.shape[1], input.shape[2:].numel()


def _memory_format(tensor: Tensor) -> torch.memory_format:
    for dims, layout in ((4, torch.channels_last), (5, torch.channels_last_3d)):
        if tensor.dim() == dims and not tensor.is_contiguous() and tensor.is_contiguous(memory_format=layout):
            return layout
    return torch.contiguous_format


def _dense(tensor: Tensor) -> Tensor:
    """Contiguous, or with the channels last where it is that already: aten knows both."""
    return tensor.contiguous(memory_format=_memory_format(tensor))


def _check(input: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None) -> None:
    if input.dim() < 2:
        raise RuntimeError(f"group_norm: `input` has shape {list(input.shape)}, expected (N, C, *)")
    channels = input.shape[1]
    if groups < 1 or channels % groups:
        raise RuntimeError(
            f"group_norm: num_groups is {groups}, expected a divisor of the {channels} channels of `input`"
        )
    for name, values in (("weight", weight), ("bias", bias)):
        if values is not None and values.shape != (channels,):
            raise RuntimeError(f"group_norm: `{name}` has shape {list(values.shape)}, expected [{channels}]")
    if input.numel() and input[0].numel() == groups and input.shape[0] == 1:
        raise ValueError(f"group_norm: more than one value per group is expected, got `input` of {list(input.shape)}")
