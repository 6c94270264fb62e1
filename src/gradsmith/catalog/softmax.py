"""The softmax, its logarithm, and the logarithm of the sum of exponentials."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gradsmith.catalog import _private
from gradsmith.catalog.parallel import parallel_for
from gradsmith.catalog.rows import Block, accumulation, as_rows, blocks, watched
from gradsmith.define.op import op
from gradsmith.native import dispatch, kernels


def _for_softmax(grad: Tensor, out: Tensor, dim: int) -> Tensor:
    if _private.softmax_backward is not None:
        return _private.softmax_backward(grad, out, dim, grad.dtype)
    return out * (grad - (grad * out).sum(dim, keepdim=True))


@op(input=_for_softmax)
def softmax(input: Tensor, dim: int, dtype: torch.dtype | None = None) -> Tensor:
    """e^x over its sum along a dimension: as `torch.nn.functional.softmax`.

    With p the output, ∂p_j/∂x_i = p_j (1[i = j] - p_i), so for the upstream gradient g

        ∂L/∂x = p (g - Σ_j g_j p_j)

    Args:
        input: any shape, a floating-point dtype.
        dim: the dimension that is summed over.
        dtype: of the output, and of the computation; the dtype of input if None.

    Saves: the output. Source: PyTorch's derivatives.yaml (`_softmax_backward_data`).

    >>> x = torch.tensor([0.0, 0.0], requires_grad=True)
    >>> softmax(x, 0).detach()
    tensor([0.5000, 0.5000])
    """
    return torch.softmax(input, dim, dtype=dtype)


def _for_log_softmax(grad: Tensor, out: Tensor, dim: int) -> Tensor:
    if _private.log_softmax_backward is not None:
        return _private.log_softmax_backward(grad, out, dim, grad.dtype)
    return grad - out.exp() * grad.sum(dim, keepdim=True)


@op(input=_for_log_softmax)
def log_softmax(input: Tensor, dim: int, dtype: torch.dtype | None = None) -> Tensor:
    """x less the logarithm of the sum of e^x along a dimension: as `torch.nn.functional.log_softmax`.

    With y the output, ∂y_j/∂x_i = 1[i = j] - e^y_i, so for the upstream gradient g

        ∂L/∂x = g - e^y Σ_j g_j

    Args:
        input: any shape, a floating-point dtype.
        dim: the dimension that is summed over.
        dtype: of the output, and of the computation; the dtype of input if None.

    Saves: the output. Source: PyTorch's derivatives.yaml (`_log_softmax_backward_data`).

    >>> log_softmax(torch.tensor([0.0, 0.0]), 0)
    tensor([-0.6931, -0.6931])
    """
    return torch.log_softmax(input, dim, dtype=dtype)


@op
def logsumexp(input: Tensor, dim: int | Sequence[int], keepdim: bool = False) -> Tensor:
    """log Σ e^x along one or several dimensions: as `torch.logsumexp`.

    ∂/∂x_i log Σ_j e^x_j = e^x_i / Σ_j e^x_j, so for the upstream gradient g

        ∂L/∂x = g softmax(x)

    Args:
        input: any shape, a floating-point dtype. Of half and bfloat16 the softmax is taken in float32, where torch
            takes it from the rounded output.
        dim: what is summed over.
        keepdim: keep those dimensions, of size 1.

    Saves: input. Source: PyTorch's derivatives.yaml (`logsumexp_backward`).

    >>> logsumexp(torch.tensor([0.0, 0.0]), 0)
    tensor(0.6931)
    """
    if not _last(input, dim) or not input.is_cpu or input.numel() < dispatch.SMALLEST or watched():
        return torch.logsumexp(input, dim if isinstance(dim, int) else tuple(dim), keepdim=keepdim)
    sums = _of_rows(as_rows(input, input.shape[-1])).to(input.dtype).view(input.shape[:-1])
    return sums.unsqueeze(-1) if keepdim else sums


@logsumexp.vjp("input")
def _(grad: Tensor, input: Tensor, dim: int | Sequence[int], keepdim: bool) -> Tensor:
    dims = sorted({axis % max(1, input.dim()) for axis in ((dim,) if isinstance(dim, int) else dim)})
    if not keepdim:
        for axis in dims if input.dim() else ():
            grad = grad.unsqueeze(axis)
    wide = accumulation(input.dtype)
    if _last(input, dim) and not watched():
        return _by_rows(grad.to(wide), input)
    if len(dims) == 1:
        return grad.to(wide) * torch.softmax(input, dims[0], dtype=wide)
    total = torch.logsumexp(input.to(wide), dims, keepdim=True)
    return grad.to(wide) * torch.exp(input.to(wide) - total)


def _of_rows(rows: Tensor) -> Tensor:
    native = kernels(rows)
    if native is not None:
        return native.logsumexp(rows)  # type: ignore[no-any-return]
    some = blocks(rows.shape[:1], rows.shape[1])
    return torch.cat(parallel_for(some, lambda at: _log_of_sums(rows[at]), rows))


def _log_of_sums(rows: Tensor) -> Tensor:
    """Of 32 bits and more from the softmax at the largest element, 1 / Σ e^(x - max x): two passes and no memory."""
    if rows.dtype.itemsize <= 2:
        return torch.logsumexp(rows, 1)
    top = rows.amax(1)
    sums = top - torch.softmax(rows, 1).amax(1).log_()
    odd = top.isinf()
    if odd.any():
        sums[odd] = torch.logsumexp(rows[odd], 1)
    return sums


def _by_rows(grad: Tensor, input: Tensor) -> Tensor:
    rows, upstream = as_rows(input, input.shape[-1]), grad.reshape(-1, 1).contiguous()
    native = kernels(rows, upstream)
    if native is not None:
        return native.logsumexp_backward(upstream, rows).view(input.shape)  # type: ignore[no-any-return]
    out = torch.empty_like(rows)
    # In half a small probability would be lost before the upstream, which may be a loss scale, makes it large.
    dtype = upstream.dtype if rows.dtype == torch.half else rows.dtype
    factor = upstream.to(dtype)

    def gradient(at: Block) -> None:
        if dtype == rows.dtype:
            torch.softmax(rows[at], 1, out=out[at]).mul_(factor[at])
        else:
            out[at] = torch.softmax(rows[at], 1, dtype=dtype).mul_(factor[at])

    parallel_for(blocks(rows.shape[:1], rows.shape[1]), gradient, rows)
    return out.view(input.shape)


def _last(input: Tensor, dim: int | Sequence[int]) -> bool:
    """Whether the sum is over the last dimension, which has elements."""
    (axis, *more) = (dim,) if isinstance(dim, int) else tuple(dim) or (None,)
    return input.dim() > 0 and not more and axis in (-1, input.dim() - 1) and input.numel() > 0
