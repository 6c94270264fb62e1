"""Layer norm, also with the residual added first."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gradsmith.catalog.norm_rows import (
    Gradients,
    Needs,
    Shape,
    check_residual,
    check_shape,
    native_gradients,
    native_norm,
    size_of,
    with_residual,
)
from gradsmith.catalog.parallel import Widened, parallel_for
from gradsmith.catalog.recompute import recomputable
from gradsmith.catalog.rows import accumulation, as_rows, parameter, pieces, watched
from gradsmith.define.keep import keep
from gradsmith.define.op import op
from gradsmith.native import kernels

_forward: Any = torch.ops.aten.native_layer_norm.default
_backward: Any = torch.ops.aten.native_layer_norm_backward.default


@op
def layer_norm(
    input: Tensor,
    normalized_shape: Shape,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Each row less its mean, over its standard deviation: as `torch.nn.functional.layer_norm`.

    With m and s² the mean and variance of a row of D elements, r = 1/√(s² + eps) and n = (x - m) r, the output is
    n w + b. From ∂n_j/∂x_i = r (1[i = j] - 1/D - n_i n_j / D) and h = g w for the upstream gradient g,

        ∂L/∂x = r (h - mean(h) - n mean(h n))        ∂L/∂w = Σ_rows g n        ∂L/∂b = Σ_rows g

    Args:
        input: (*, normalized_shape); a floating-point dtype. Of half and bfloat16 all sums are taken in float32, the
            gradients of weight and bias included, which torch sums over the rows in bfloat16.
        normalized_shape: the last dimensions, which are normalised together.
        weight, bias: of normalized_shape, or None.
        eps: is added to the variance.

    Saves: input, weight, and the mean and reciprocal deviation of each row. Source: Ba, Kiros and Hinton,
    https://arxiv.org/abs/1607.06450.

    Raises RuntimeError where the shapes do not fit together, as torch does.

    >>> x = torch.tensor([[1.0, 2.0, 3.0]], requires_grad=True)
    >>> layer_norm(x, (3,)).detach()
    tensor([[-1.2247,  0.0000,  1.2247]])
    """
    shape = list(normalized_shape)
    check_shape("layer_norm", input, shape)
    out, _, mean, rstd = _normalised(input, None, shape, weight, bias, eps)
    return keep(recomputable(out, _again, input, shape, weight, bias, eps), mean=mean, rstd=rstd)  # type: ignore[return-value]  # an op unpacks it


@layer_norm.vjp("input", "weight", "bias")
def _(
    grad: Tensor,
    input: Tensor,
    normalized_shape: Shape,
    weight: Tensor | None,
    bias_dtype: torch.dtype | None,
    mean: Tensor,
    rstd: Tensor,
    needs: Needs,
) -> Gradients:
    return _gradients(grad, input, list(normalized_shape), weight, mean, rstd, needs)


@op(outputs=("normed", "added"))
def add_layer_norm(
    input: Tensor,
    residual: Tensor,
    normalized_shape: Shape,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> tuple[Tensor, Tensor]:
    """(layer_norm(input + residual), input + residual): the step between two blocks of a transformer, in one pass.

    The sum has one reader more than the norm, so its gradient is that of the norm plus what arrives at the sum itself,
    and it is the gradient of both, input and residual. See `layer_norm` for the arguments; residual has the shape and
    dtype of input.

    Saves: the sum, weight, and the mean and reciprocal deviation of each row; neither input nor residual.

    >>> normed, added = add_layer_norm(torch.ones(1, 2), torch.tensor([[0.0, 2.0]]), (2,))
    >>> added
    tensor([[1., 3.]])
    """
    shape = list(normalized_shape)
    check_shape("add_layer_norm", input, shape)
    check_residual("add_layer_norm", input, residual)
    out, added, mean, rstd = _normalised(input, residual, shape, weight, bias, eps)
    out = recomputable(out, _again, added, shape, weight, bias, eps)
    return keep((out, added), mean=mean, rstd=rstd)  # type: ignore[return-value]


@add_layer_norm.vjp("input", "residual", "weight", "bias")
def _(
    grad_normed: Tensor,
    grad_added: Tensor,
    added: Tensor,
    normalized_shape: Shape,
    weight: Tensor | None,
    bias_dtype: torch.dtype | None,
    mean: Tensor,
    rstd: Tensor,
    needs: Needs,
) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
    shape = list(normalized_shape)
    dx, dw, db = _gradients(grad_normed, added, shape, weight, mean, rstd, with_residual(needs), grad_added)
    return dx, dx, dw, db


def _normalised(
    input: Tensor, residual: Tensor | None, shape: list[int], weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Output, what was normalised, and mean and reciprocal deviation of each row."""
    native = kernels(input, residual, weight, bias)
    if native is not None and input.numel():
        return native_norm(native, input, residual, shape, weight, bias, eps, True)
    added = input if residual is None else input + residual
    out, mean, rstd = _in_torch_ops(added, shape, weight, bias, eps)
    return out, added, mean.flatten(), rstd.flatten()


def _again(added: Tensor, shape: list[int], weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    return _normalised(added, None, shape, weight, bias, eps)[0]


def _in_torch_ops(
    input: Tensor, shape: list[int], weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Output, mean and reciprocal deviation; the statistics in float32 or more, which torch rounds to bfloat16."""
    wide = accumulation(input.dtype)
    if _whole(input):
        scale, shift = (None if values is None else values.to(wide) for values in (weight, bias))
        out, mean, rstd = _forward(input.to(wide), shape, scale, shift, eps)
        return out.to(input.dtype), mean, rstd
    scale, shift = parameter(weight, 1, shape, input), parameter(bias, 0, shape, input)
    return _forward(input, shape, scale, shift, eps)  # type: ignore[no-any-return]


def _whole(input: Tensor) -> bool:
    """Whether aten is to be given tensors of one dtype, as it must be on other devices than the CPU."""
    return accumulation(input.dtype) == input.dtype or watched() or not input.numel() or not input.is_cpu


def _gradients(
    grad: Tensor,
    input: Tensor,
    shape: list[int],
    weight: Tensor | None,
    mean: Tensor,
    rstd: Tensor,
    needs: Needs,
    grad_added: Tensor | None = None,
) -> Gradients:
    native = kernels(grad, input, weight, grad_added) if mean.dtype == torch.float32 else None
    if native is not None and input.numel():
        return native_gradients(native, grad, input, shape, weight, mean, rstd, needs, grad_added)
    wanted = [needs["input"], needs["weight"], needs["bias"]]
    # aten's second derivative takes the statistics for functions of input by itself, so they are constants here.
    sizes = [*input.shape[: input.dim() - len(shape)], *[1] * len(shape)]
    statistics = [statistic.detach().view(sizes) for statistic in (mean, rstd)]
    if _whole(input):
        wide = accumulation(input.dtype)
        scale = None if weight is None else weight.to(wide)
        bias = torch.zeros(shape, dtype=wide, device=input.device)  # aten asks for it to give its gradient
        dx, dw, db = _backward(grad.to(wide), input.to(wide), shape, *statistics, scale, bias, wanted)
    else:
        scale, bias = parameter(weight, 1, shape, input), parameter(None, 0, shape, input)
        dx = _backward(grad, input, shape, *statistics, scale, bias, [True, False, False])[0] if wanted[0] else None
        dw, db = _sums(grad, input, shape, mean, rstd, wanted[1:]) if any(wanted[1:]) else (None, None)
    if needs["input"] and grad_added is not None:
        dx = dx.to(grad_added.dtype)
        dx = dx + grad_added if watched() else dx.add_(grad_added)
    return dx, dw, db


def _sums(
    grad: Tensor, input: Tensor, shape: list[int], mean: Tensor, rstd: Tensor, wanted: list[bool]
) -> list[Tensor | None]:
    """The gradients of weight and bias, of low precision: in float32 some rows at a time, as aten sums in bfloat16."""
    columns = size_of(shape)
    upstream, rows = as_rows(grad, columns), as_rows(input, columns)
    one = torch.ones(columns, device=input.device)  # aten asks for weight and bias to give their gradients
    wide = Widened(torch.float32)

    def sums(piece: slice) -> Any:
        tensors, statistics = wide(upstream[piece], rows[piece]), (mean[piece, None], rstd[piece, None])
        return _backward(*tensors, [columns], *statistics, one, one, [False, *wanted])[1:]

    for_weight, for_bias = zip(*parallel_for(pieces(len(rows), columns), sums, rows), strict=True)
    parts = zip((for_weight, for_bias), wanted, strict=True)
    return [torch.stack(part).sum(0).view(shape) if want else None for part, want in parts]
