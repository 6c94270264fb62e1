"""Layer norm and RMS norm, each also with the residual added first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from gradsmith.catalog.rows import accumulation, as_rows, pieces, watched
from gradsmith.define.keep import keep
from gradsmith.define.op import op
from gradsmith.native import kernels

Shape = Sequence[int]
Needs = Mapping[str, bool]
Gradients = tuple[Tensor | None, Tensor | None, Tensor | None]


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
    _check_shape("layer_norm", input, shape)
    native = kernels(input, weight, bias)
    if native is not None and input.numel():
        out, _, mean, rstd = native.norm(
            _contiguous_rows(input, shape), None, _single(weight), _single(bias), eps, True
        )
        return keep(out.view(input.shape), mean=mean, rstd=rstd)  # type: ignore[return-value]  # an op unpacks it
    out, mean, rstd = _layer_norm(input, shape, weight, bias, eps)
    return keep(out, mean=mean.flatten(), rstd=rstd.flatten())  # type: ignore[return-value]


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
    return _layer_norm_gradients(grad, input, list(normalized_shape), weight, mean, rstd, needs)


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
    _check_shape("rms_norm", input, shape, weight)
    eps = _epsilon(eps, input)
    native = kernels(input, weight)
    if native is not None and input.numel():
        out, _, _, rstd = native.norm(_contiguous_rows(input, shape), None, _single(weight), None, eps, False)
        return keep(out.view(input.shape), rstd=rstd)  # type: ignore[return-value]  # an op unpacks it
    out, rstd = _rms_norm(input, shape, weight, eps)
    return keep(out, rstd=rstd.flatten())  # type: ignore[return-value]


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
    return _rms_norm_gradients(grad, input, list(normalized_shape), weight, eps, rstd, needs)


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
    _check_shape("add_layer_norm", input, shape)
    _check_residual("add_layer_norm", input, residual)
    native = kernels(input, residual, weight, bias)
    if native is not None and input.numel():
        out, added, mean, rstd = native.norm(
            _contiguous_rows(input, shape),
            _contiguous_rows(residual, shape),
            _single(weight),
            _single(bias),
            eps,
            True,
        )
        return keep((out.view(input.shape), added.view(input.shape)), mean=mean, rstd=rstd)  # type: ignore[return-value]
    added = input + residual
    out, mean, rstd = _layer_norm(added, shape, weight, bias, eps)
    return keep((out, added), mean=mean.flatten(), rstd=rstd.flatten())  # type: ignore[return-value]


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
    both = {**needs, "input": needs["input"] or needs["residual"]}
    shape = list(normalized_shape)
    dx, dw, db = _layer_norm_gradients(grad_normed, added, shape, weight, mean, rstd, both, grad_added)
    return dx, dx, dw, db


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
    _check_shape("add_rms_norm", input, shape, weight)
    _check_residual("add_rms_norm", input, residual)
    eps = _epsilon(eps, input)
    native = kernels(input, residual, weight)
    if native is not None and input.numel():
        rows = _contiguous_rows(input, shape), _contiguous_rows(residual, shape)
        out, added, _, rstd = native.norm(*rows, _single(weight), None, eps, False)
        return keep((out.view(input.shape), added.view(input.shape)), rstd=rstd)  # type: ignore[return-value]
    added = input + residual
    out, rstd = _rms_norm(added, shape, weight, eps)
    return keep((out, added), rstd=rstd.flatten())  # type: ignore[return-value]


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
    both = {**needs, "input": needs["input"] or needs["residual"]}
    shape = list(normalized_shape)
    dx, dw = _rms_norm_gradients(grad_normed, added, shape, weight, eps, rstd, both, grad_added)
    return dx, dx, dw


# ---- what the four share ---------------------------------------------------------------------------------------------


def _layer_norm(
    input: Tensor, shape: list[int], weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Output, mean and reciprocal deviation; the statistics in float32 or more, which torch rounds to bfloat16."""
    forward: Any = torch.ops.aten.native_layer_norm.default
    wide = accumulation(input.dtype)
    if wide == input.dtype or watched() or not input.numel():
        scale, shift = (None if values is None else values.to(wide) for values in (weight, bias))
        out, mean, rstd = forward(input.to(wide), shape, scale, shift, eps)
        return out.to(input.dtype), mean, rstd
    columns = _size(shape)
    rows = as_rows(input, columns)
    scale, shift = (None if values is None else values.flatten().float() for values in (weight, bias))
    out = torch.empty_like(rows)
    stats = torch.empty(2, len(rows), 1, device=input.device)
    for piece in pieces(*rows.shape):
        out[piece], stats[0, piece], stats[1, piece] = forward(rows[piece].float(), [columns], scale, shift, eps)
    return out.view(input.shape), stats[0], stats[1]


def _layer_norm_gradients(
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
        return _native_gradients(native, grad, input, shape, weight, mean, rstd, needs, grad_added)
    wanted = [needs["input"], needs["weight"], needs["bias"]]
    # aten's second derivative takes the statistics for functions of input by itself, so they are constants here.
    sizes = [*input.shape[: input.dim() - len(shape)], *[1] * len(shape)]
    statistics = [statistic.detach().view(sizes) for statistic in (mean, rstd)]
    backward: Any = torch.ops.aten.native_layer_norm_backward.default
    wide = accumulation(input.dtype)
    if wide == input.dtype or watched() or not input.numel():
        scale = None if weight is None else weight.to(wide)
        bias = torch.zeros(shape, dtype=wide, device=input.device)  # aten asks for it to give its gradient
        dx, dw, db = backward(grad.to(wide), input.to(wide), shape, *statistics, scale, bias, wanted)
    else:
        dx, dw, db = _by_pieces(backward, grad, input, shape, weight, mean, rstd, wanted)
    if needs["input"] and grad_added is not None:
        dx = dx.to(grad_added.dtype) + grad_added
    return dx, dw, db


def _by_pieces(
    backward: Any,
    grad: Tensor,
    input: Tensor,
    shape: list[int],
    weight: Tensor | None,
    mean: Tensor,
    rstd: Tensor,
    wanted: list[bool],
) -> Gradients:
    """The gradients of low precision in float32, some rows at a time."""
    columns = _size(shape)
    upstream, rows = as_rows(grad, columns), as_rows(input, columns)
    scale = None if weight is None else weight.flatten().float()
    sums = torch.zeros(2, columns, device=input.device)
    dx = torch.empty_like(rows) if wanted[0] else None
    for piece in pieces(*rows.shape):
        part = backward(
            upstream[piece].float(),
            rows[piece].float(),
            [columns],
            mean[piece, None],
            rstd[piece, None],
            scale,
            sums[1],
            wanted,
        )
        if dx is not None:
            dx[piece] = part[0]
        for total, one, want in zip(sums, part[1:], wanted[1:], strict=True):
            if want:
                total += one
    dw, db = (total.view(shape) if want else None for total, want in zip(sums, wanted[1:], strict=True))
    return None if dx is None else dx.view(input.shape), dw, db


def _rms_norm(input: Tensor, shape: list[int], weight: Tensor | None, eps: float) -> tuple[Tensor, Tensor]:
    """Output and reciprocal root mean square, in float32 or more."""
    columns = _size(shape)
    rows = as_rows(input, columns)
    rstd = _reciprocal_root(rows, eps)
    scale = None if weight is None else weight.flatten()
    if watched():
        normed = rows.to(rstd.dtype) * rstd
        out = normed if scale is None else normed * scale
        return out.to(input.dtype).view(input.shape), rstd
    out = torch.empty_like(rows)
    for piece in pieces(*rows.shape):
        normed = rows[piece] * rstd[piece]
        torch.mul(normed, 1 if scale is None else scale, out=normed)
        out[piece] = normed
    return out.view(input.shape), rstd


def _rms_norm_gradients(
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
        return _native_gradients(native, grad, input, shape, weight, None, rstd, needs, grad_added)[:2]
    columns = _size(shape)
    upstream, rows = as_rows(grad, columns), as_rows(input, columns)
    scale = None if weight is None else weight.flatten()
    added = None if grad_added is None else as_rows(grad_added, columns)
    if watched():
        # The rows' own r, not the one that was kept, so that a second derivative goes through it.
        root = _reciprocal_root(rows, _epsilon(eps, input))
        dx, dw = _rms_piece(upstream, rows, root, scale)
        dx = dx if added is None else dx + added
    else:
        dx, dw = torch.empty_like(rows), torch.zeros(columns, dtype=rstd.dtype, device=input.device)
        for piece in pieces(*rows.shape):
            part, columns_part = _rms_piece(upstream[piece], rows[piece], rstd[piece, None], scale)
            dx[piece] = part if added is None else part.add_(added[piece])
            dw += columns_part
    return dx.view(input.shape), dw.view(shape) if needs["weight"] else None


def _rms_piece(grad: Tensor, rows: Tensor, rstd: Tensor, scale: Tensor | None) -> tuple[Tensor, Tensor]:
    normed = rows * rstd
    products = grad * normed
    dw = products.sum(0)
    if scale is None:
        arriving, along = grad, products.mean(-1, keepdim=True)
    else:
        arriving, along = grad * scale, (products @ scale.to(products.dtype))[:, None] / len(scale)
    return torch.addcmul(arriving.to(normed.dtype), normed, along, value=-1) * rstd, dw


def _native_gradients(
    native: Any,
    grad: Tensor,
    input: Tensor,
    shape: list[int],
    weight: Tensor | None,
    mean: Tensor | None,
    rstd: Tensor,
    needs: Needs,
    grad_added: Tensor | None,
) -> Gradients:
    parts = native.norm_backward(
        _contiguous_rows(grad, shape),
        _contiguous_rows(input, shape),
        mean,
        rstd,
        _single(weight),
        None if grad_added is None else _contiguous_rows(grad_added, shape),
        needs["input"],
        needs["weight"],
        needs.get("bias", False),
    )
    asked = needs["input"], needs["weight"], needs.get("bias", False)
    shapes = input.shape, shape, shape
    dx, dw, db = (part.view(size) if ask else None for part, size, ask in zip(parts, shapes, asked, strict=True))
    return dx, dw, db


def _reciprocal_root(rows: Tensor, eps: float) -> Tensor:
    wide = accumulation(rows.dtype)
    return (rows.to(wide).square().mean(-1, keepdim=True) + eps).rsqrt()


def _contiguous_rows(tensor: Tensor, shape: list[int]) -> Tensor:
    return tensor.contiguous().view(-1, _size(shape))


def _single(values: Tensor | None) -> Tensor | None:
    return None if values is None else values.float().contiguous()


def _size(shape: list[int]) -> int:
    return torch.Size(shape).numel()


def _epsilon(eps: float | None, input: Tensor) -> float:
    return torch.finfo(accumulation(input.dtype)).eps if eps is None else eps


def _check_shape(name: str, input: Tensor, shape: list[int], weight: Tensor | None = None) -> None:
    """What native_layer_norm of torch checks, for the routes that do not go through it."""
    if not shape or list(input.shape[-len(shape) :]) != shape or len(shape) > input.dim():
        raise RuntimeError(
            f"{name}: normalized_shape is {shape}, and `input` of shape {list(input.shape)} does not end with it"
        )
    if weight is not None and list(weight.shape) != shape:
        raise RuntimeError(f"{name}: `weight` has shape {list(weight.shape)}, expected normalized_shape {shape}")


def _check_residual(name: str, input: Tensor, residual: Tensor) -> None:
    if input.shape != residual.shape or input.dtype != residual.dtype:
        raise RuntimeError(
            f"{name}: `residual` is {residual.dtype} of shape {list(residual.shape)}, expected {input.dtype} of shape "
            f"{list(input.shape)} as `input`"
        )
