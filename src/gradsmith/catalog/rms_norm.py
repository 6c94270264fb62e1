"""RMS norm, also with the residual added first."""

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

_layer_norm_backward: Any = torch.ops.aten.native_layer_norm_backward.default


@op
def rms_norm(input: Tensor, normalized_shape: Shape, weight: Tensor | None = None, eps: float | None = None) -> Tensor:
    """Each row over the root of its mean square: as `torch.nn.functional.rms_norm`.

    With r = 1/√(mean(x²) + eps) and n = x r for a row of D elements the output is n w. From
    ∂n_j/∂x_i = r (1[i = j] - n_i n_j / D) and h = g w for the upstream gradient g,

        ∂L/∂x = r (h - n mean(h n))        ∂L/∂w = Σ_rows g n

    Args:
        input: (*, normalized_shape); a floating-point dtype. Of half and bfloat16 all sums are taken in float32.
        normalized_shape: the last dimensions, which are normalised together.
        weight: of normalized_shape, or None.
        eps: is added to the mean square; None is the machine epsilon of input's dtype, or of float32 if that is finer.

    Saves: input, weight and r of each row. Source: Zhang and Sennrich, https://arxiv.org/abs/1910.07467.

    Raises RuntimeError where the shapes do not fit together, as torch does.

    >>> x = torch.tensor([[3.0, 4.0]], requires_grad=True)
    >>> rms_norm(x, (2,)).detach()
    tensor([[0.8485, 1.1314]])
    """
    shape = list(normalized_shape)
    check_shape("rms_norm", input, shape, weight)
    out, _, rstd = _normalised(input, None, shape, weight, eps)
    return keep(recomputable(out, _again, input, shape, weight, eps), rstd=rstd)  # type: ignore[return-value]  # an op unpacks it


@rms_norm.vjp("input", "weight")
def _(
    grad: Tensor,
    input: Tensor,
    normalized_shape: Shape,
    weight: Tensor | None,
    eps: float | None,
    rstd: Tensor,
    needs: Needs,
) -> tuple[Tensor | None, Tensor | None]:
    return _gradients(grad, input, list(normalized_shape), weight, eps, rstd, needs)


@op(outputs=("normed", "added"))
def add_rms_norm(
    input: Tensor,
    residual: Tensor,
    normalized_shape: Shape,
    weight: Tensor | None = None,
    eps: float | None = None,
) -> tuple[Tensor, Tensor]:
    """(rms_norm(input + residual), input + residual): the step between two blocks of a transformer, in one pass.

    As `add_layer_norm`, with `rms_norm` for the norm. Saves: the sum, weight and r of each row.

    >>> normed, added = add_rms_norm(torch.ones(1, 2), torch.tensor([[2.0, 3.0]]), (2,))
    >>> normed
    tensor([[0.8485, 1.1314]])
    """
    shape = list(normalized_shape)
    check_shape("add_rms_norm", input, shape, weight)
    check_residual("add_rms_norm", input, residual)
    out, added, rstd = _normalised(input, residual, shape, weight, eps)
    return keep((recomputable(out, _again, added, shape, weight, eps), added), rstd=rstd)  # type: ignore[return-value]


@add_rms_norm.vjp("input", "residual", "weight")
def _(
    grad_normed: Tensor,
    grad_added: Tensor,
    added: Tensor,
    normalized_shape: Shape,
    weight: Tensor | None,
    eps: float | None,
    rstd: Tensor,
    needs: Needs,
) -> Gradients:
    shape = list(normalized_shape)
    dx, dw = _gradients(grad_normed, added, shape, weight, eps, rstd, with_residual(needs), grad_added)
    return dx, dx, dw


def _normalised(
    input: Tensor, residual: Tensor | None, shape: list[int], weight: Tensor | None, eps: float | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Output, what was normalised, and the reciprocal root mean square of each row."""
    eps = _epsilon(eps, input)
    native = kernels(input, residual, weight)
    if native is not None and input.numel():
        out, added, _, rstd = native_norm(native, input, residual, shape, weight, None, eps, False)
        return out, added, rstd
    added = input if residual is None else input + residual
    out, rstd = _in_torch_ops(added, shape, weight, eps)
    return out, added, rstd.flatten()


def _again(added: Tensor, shape: list[int], weight: Tensor | None, eps: float | None) -> Tensor:
    return _normalised(added, None, shape, weight, eps)[0]


def _in_torch_ops(input: Tensor, shape: list[int], weight: Tensor | None, eps: float) -> tuple[Tensor, Tensor]:
    """Output and reciprocal root mean square, in float32 or more."""
    rows = as_rows(input, size_of(shape))
    if watched():
        rstd = _reciprocal_root(rows, eps)
        normed = rows.to(rstd.dtype) * rstd
        out = normed if weight is None else normed * weight.flatten()
        return out.to(input.dtype).view(input.shape), rstd
    scale = parameter(weight, 1, shape, input).flatten()
    out, rstd, wide = torch.empty_like(rows), scale.new_empty(len(rows), 1), Widened(scale.dtype)

    def normalise(piece: slice) -> None:
        (part,), root = wide(rows[piece]), rstd[piece]
        torch.linalg.vector_norm(part, dim=-1, keepdim=True, out=root)
        root.square_().div_(len(scale)).add_(eps).rsqrt_()
        if out.dtype == scale.dtype:
            torch.mul(part, root, out=out[piece]).mul_(scale)
        else:  # rounded once
            out[piece] = part.mul_(root).mul_(scale)

    parallel_for(pieces(*rows.shape), normalise, rows)
    return out.view(input.shape), rstd


def _gradients(
    grad: Tensor,
    input: Tensor,
    shape: list[int],
    weight: Tensor | None,
    eps: float | None,
    rstd: Tensor,
    needs: Needs,
    grad_added: Tensor | None = None,
) -> tuple[Tensor | None, Tensor | None]:
    native = kernels(grad, input, weight, grad_added)
    if native is not None and input.numel():
        return native_gradients(native, grad, input, shape, weight, None, rstd, needs, grad_added)[:2]
    columns = size_of(shape)
    upstream, rows = as_rows(grad, columns), as_rows(input, columns)
    added = None if grad_added is None else as_rows(grad_added, columns)
    if watched():
        # The rows' own r, not the one that was kept, so that a second derivative goes through it.
        root = _reciprocal_root(rows, _epsilon(eps, input))
        dx, dw = _of_rows(upstream, rows, root, None if weight is None else weight.flatten())
        dx = dx if added is None else dx + added
    else:
        scale = parameter(weight, 1, shape, input).flatten()
        dx, dw = _by_layer_norm(upstream, rows, rstd[:, None], scale, added, needs["weight"])
    return dx.view(input.shape), dw.view(shape) if needs["weight"] else None


def _by_layer_norm(
    grad: Tensor, rows: Tensor, rstd: Tensor, scale: Tensor, added: Tensor | None, for_weight: bool
) -> tuple[Tensor, Tensor]:
    """By aten's fused gradient of layer norm, for rows whose mean is taken for 0.

    That is r (h - mean(h) - n mean(h n)); here the mean of h is not taken off, and so is put back.
    """
    dx, columns, wide = torch.empty_like(rows), len(scale), Widened(scale.dtype)

    def gradients(piece: slice) -> Tensor | None:
        (upstream, part), root = wide(grad[piece], rows[piece]), rstd[piece]
        statistics = torch.zeros_like(root), root
        asked = [True, for_weight, False]
        part, for_scale, _ = _layer_norm_backward(upstream, part, [columns], *statistics, scale, scale, asked)
        taken = (upstream @ scale)[:, None] * root / columns
        part = part if added is None else part.add_(added[piece])
        if dx.dtype == part.dtype:
            torch.add(part, taken, out=dx[piece])
        else:  # rounded once
            dx[piece] = part.add_(taken)
        return for_scale  # type: ignore[no-any-return]

    parts = [part for part in parallel_for(pieces(*rows.shape), gradients, rows) if part is not None]
    return dx, torch.stack(parts).sum(0) if parts else torch.zeros_like(scale)


def _of_rows(grad: Tensor, rows: Tensor, rstd: Tensor, scale: Tensor | None) -> tuple[Tensor, Tensor]:
    normed = rows * rstd
    products = grad * normed
    dw = products.sum(0)
    if scale is None:
        arriving, along = grad, products.mean(-1, keepdim=True)
    else:
        arriving, along = grad * scale, (products @ scale.to(products.dtype))[:, None] / len(scale)
    return torch.addcmul(arriving.to(normed.dtype), normed, along, value=-1) * rstd, dw


def _reciprocal_root(rows: Tensor, eps: float) -> Tensor:
    wide = accumulation(rows.dtype)
    return (rows.to(wide).square().mean(-1, keepdim=True) + eps).rsqrt()


def _epsilon(eps: float | None, input: Tensor) -> float:
    return torch.finfo(accumulation(input.dtype)).eps if eps is None else eps
