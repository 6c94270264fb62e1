"""What losses share that compare two tensors element by element: broadcasting, reductions, and blocks fit for a cache.

A loss is a function of elements, `value`, and a function for each gradient, `slope`, which takes the upstream gradient
first. Both are differentiable operations on whole tensors. Where nobody differentiates, batches or traces them, they
are given a block at a time, so that what they compute on the way never leaves the cache.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import reduce

import torch
from torch import Tensor

from gradsmith.catalog.parallel import parallel_for
from gradsmith.catalog.rows import Block, accumulation, blocks, watched

REDUCTIONS = ("none", "mean", "sum")


def reduced(
    value: Callable[..., Tensor],
    tensors: tuple[Tensor | None, ...],
    reduction: str,
    count: int | None = None,
    times: float = 1,
) -> Tensor:
    """The losses of all elements, or their sum, or their mean, in the dtype of the tensors.

    "mean" divides by `count`, which is the number of elements if None. Sums are taken in float32 at least. `times` is
    above 1 for a `value` with many intermediate results, so that they fit a cache, and below 1 for one with few passes,
    which does not make up for the start of each in many small blocks.
    """
    views = _expanded(tensors)
    first = next(view for view in views if view is not None)
    shape = first.shape
    dtype = reduce(torch.promote_types, [tensor.dtype for tensor in tensors if tensor is not None])
    if reduction == "none":
        return _by_blocks(value, views, shape, dtype, times)
    wide = accumulation(dtype)
    if watched():
        total = value(*views).sum(dtype=wide)
    else:
        sums = parallel_for(blocks(shape, times), lambda index: value(*_at(views, index)).sum(dtype=wide), first)
        total = torch.stack(sums).sum() if len(sums) > 1 else sums[0]
    if reduction == "mean":
        total = total / (shape.numel() if count is None else count)
    return total.to(dtype)


def gradient(
    slope: Callable[..., Tensor],
    grad: Tensor,
    tensors: tuple[Tensor | None, ...],
    shape: torch.Size,
    dtype: torch.dtype,
    reduction: str,
    count: int | None = None,
    times: float = 1,
) -> Tensor:
    """The gradient of an argument of this shape and dtype: `slope` of the upstream gradient and of the tensors."""
    common = torch.broadcast_shapes(shape, *[tensor.shape for tensor in tensors if tensor is not None])
    arriving = upstream(grad, common, reduction, count)
    views = _expanded((arriving, *tensors))
    # Where the argument was broadcast its gradient is a long sum.
    result = _by_blocks(slope, views, common, dtype if shape == common else accumulation(dtype), times)
    return result.sum_to_size(shape)


def upstream(
    grad: Tensor, shape: torch.Size, reduction: str, count: int | None = None, dtype: torch.dtype | None = None
) -> Tensor:
    """What arrives at the loss of each element, before the reduction; of a sum or mean it takes no memory."""
    if reduction == "none":
        return grad.to(dtype or grad.dtype).expand(shape)
    wide = grad.to(accumulation(grad.dtype))
    if reduction == "mean":
        wide = wide / max(1, shape.numel() if count is None else count)
    return wide.to(dtype or wide.dtype).expand(shape)  # once expanded, another dtype would be a copy of every element


def check_reduction(name: str, reduction: str, allowed: tuple[str, ...] = REDUCTIONS) -> None:
    if reduction not in allowed:
        raise ValueError(f"{name}: reduction is {reduction!r}, expected one of {', '.join(map(repr, allowed))}")


def warn_of_broadcasting(name: str, input: Tensor, target: Tensor) -> None:
    """As torch does: (N, 1) beside (N,) gives N x N losses, which is hardly ever meant."""
    if input.shape != target.shape:
        warnings.warn(
            f"{name}: `target` of shape {list(target.shape)} is broadcast against `input` of shape "
            f"{list(input.shape)}; give both the same shape if that is not meant",
            stacklevel=2,
        )


def check_same_shape(name: str, input: Tensor, target: Tensor, names: tuple[str, str] = ("input", "target")) -> None:
    if input.shape != target.shape:
        raise ValueError(
            f"{name}: `{names[1]}` has shape {list(target.shape)}, expected {list(input.shape)} as `{names[0]}`"
        )


def _by_blocks(
    function: Callable[..., Tensor],
    views: list[Tensor | None],
    shape: torch.Size,
    dtype: torch.dtype,
    times: float = 1,
) -> Tensor:
    if watched():
        return function(*views).to(dtype)
    first = next(view for view in views if view is not None)
    out = torch.empty(shape, dtype=dtype, device=first.device)
    parallel_for(blocks(shape, times), lambda index: out[index].copy_(function(*_at(views, index))), out)
    return out


def _expanded(tensors: tuple[Tensor | None, ...]) -> list[Tensor | None]:
    present = iter(torch.broadcast_tensors(*[tensor for tensor in tensors if tensor is not None]))
    return [None if tensor is None else next(present) for tensor in tensors]


def _at(views: list[Tensor | None], index: Block) -> list[Tensor | None]:
    return [None if view is None else view[index] for view in views]
