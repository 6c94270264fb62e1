"""Directions of vectors: `normalize`, and the cosine of the angle between two."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from gradsmith.catalog.parallel import parallel_for
from gradsmith.catalog.rows import Block, accumulation, blocks, watched
from gradsmith.define.keep import keep
from gradsmith.define.op import op

Needs = Mapping[str, bool]
Dims = tuple[int, ...]


def normalize(input: Tensor, p: float = 2.0, dim: int | Sequence[int] = 1, eps: float = 1e-12) -> Tensor:
    """Vectors over their p-norm: as `torch.nn.functional.normalize`.

    With n = (Σ |x_i|^p)^(1/p), m = max(n, eps) and y = x/m: where n > eps, ∂n/∂x_i = sgn(y_i) |y_i|^(p-1) =: d_i, and
    where it is not, m is constant and d = 0. So for the upstream gradient g

        ∂L/∂x = (g - d Σ_j g_j y_j) / m        d = y for p = 2, sgn(y) for p = 1

    For p = ∞, d is the sign of the largest element, shared evenly where there are several; for p = 0 it is 0.

    Args:
        input: any shape; a floating-point or complex dtype. Of half and bfloat16 all sums are taken in float32.
        p: the order of the norm.
        dim: the dimension, or dimensions, that make up a vector.
        eps: the least that is divided by. A zero vector stays zero, and its gradient is g/eps.

    Returns:
        A tensor of the shape and dtype of input.

    Saves: the output, which the next layer mostly saves anyway, and m of each vector; not the input, as torch does.
    Source: PyTorch's derivatives.yaml, `linalg_vector_norm`.

    Raises IndexError for a dimension that input does not have, as torch does.

    >>> x = torch.tensor([[3.0, 4.0]], requires_grad=True)
    >>> y = normalize(x)
    >>> y.detach(), torch.autograd.grad(y[0, 0], x)
    (tensor([[0.6000, 0.8000]]), (tensor([[ 0.1280, -0.0960]]),))
    """
    return _unit_and_norm(input, p, _dims("normalize", input.dim(), dim), eps)[0]


@op(outputs=("unit", "norm"))
def _unit_and_norm(input: Tensor, p: float, dims: Dims, eps: float) -> tuple[Tensor, Tensor]:
    """The norm is an output, too, so that a second derivative goes through it without the input being saved."""
    if watched():
        norm = _norm(input, p, dims, eps)
        return (input / norm).to(input.dtype), norm
    unit = torch.empty_like(input)
    sizes = [1 if axis in dims else size for axis, size in enumerate(input.shape)]
    norm = torch.empty(sizes, dtype=accumulation(input.dtype).to_real(), device=input.device)
    vectors, units, norms = (_last(tensor, dims) for tensor in (input, unit, norm))
    inner = _inner(dims)

    def normalise(at: Block) -> None:
        norms[at] = _norm(vectors[at], p, inner, eps)
        units[at] = vectors[at] / norms[at]

    parallel_for(_blocks(vectors, dims), normalise, input)
    return unit, norm


@_unit_and_norm.vjp("input")
def _(grad_unit: Tensor, grad_norm: Tensor, unit: Tensor, norm: Tensor, p: float, dims: Dims, eps: float) -> Tensor:
    if watched():
        return _through_norm(grad_unit, grad_norm, unit, norm, p, dims, eps)
    out = torch.empty_like(unit)
    grads, norm_grads, units, norms, result = (_last(t, dims) for t in (grad_unit, grad_norm, unit, norm, out))
    inner = _inner(dims)

    def gradient(at: Block) -> None:
        result[at] = _through_norm(grads[at], norm_grads[at], units[at], norms[at], p, inner, eps)

    parallel_for(_blocks(result, dims), gradient, unit)
    return out


def _through_norm(
    grad: Tensor, grad_norm: Tensor, unit: Tensor, norm: Tensor, p: float, dims: Dims, eps: float
) -> Tensor:
    wide = accumulation(unit.dtype)
    grad, unit = grad.to(wide), unit.to(wide)
    along = _real((grad * unit.conj()).sum(dims, keepdim=True))
    along = torch.where(norm > eps, grad_norm - along / norm, 0)
    return grad / norm + along * _direction(unit, p, dims)


def _norm(input: Tensor, p: float, dims: Dims, eps: float) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(input, p, dims or None, keepdim=True, dtype=accumulation(input.dtype))
    return norm.clamp_min(eps)


def _direction(unit: Tensor, p: float, dims: Dims) -> Tensor:
    """The derivative of the norm, from the vector over its norm."""
    if p == 2:
        return unit
    if p == 1:
        return unit.sgn()
    if p == 0:
        return torch.zeros_like(unit)
    size = unit.abs()
    if p in (float("inf"), float("-inf")):
        extreme = (size.amax if p > 0 else size.amin)(dims, keepdim=True)
        chosen = (size == extreme).to(size.dtype)
        return unit.sgn() * chosen / chosen.sum(dims, keepdim=True)
    if p > 2:
        return unit * size.pow(p - 2)
    return unit.sgn() * torch.where(size == 0, 0, size.pow(p - 1))


@op
def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """The cosine of the angle between vectors: as `torch.nn.functional.cosine_similarity`.

    With m_k = max(|x_k|, eps), c = x1·x2 / (m_1 m_2), and ∂m_k/∂x_k = x_k/m_k where |x_k| > eps and 0 where it is not,
    for the upstream gradient g

        ∂L/∂x1 = g (x2/m_2 - c x1/m_1 [|x1| > eps]) / m_1        and with 1 and 2 exchanged for x2

    For vectors shorter than eps torch's gradient keeps the second term, though its forward is linear there.

    Args:
        x1, x2: any shapes that broadcast to one another; a floating-point dtype. Of half and bfloat16 all sums are
            taken in float32.
        dim: the dimension, of their common shape, that makes up a vector.
        eps: the least that each norm counts for. The cosine of a zero vector is 0, and its gradient g x2/(eps m_2).

    Returns:
        The common shape without dim, in the dtype of the arguments.

    Saves: x1, x2, and for each pair of vectors the cosine and two norms; torch saves x1/m_1 and x2/m_2 as well.
    Source: the quotient rule.

    Raises RuntimeError where the shapes do not broadcast, and IndexError for a dimension that they do not have.

    >>> x = torch.tensor([[1.0, 0.0]], requires_grad=True)
    >>> c = cosine_similarity(x, torch.tensor([[1.0, 1.0]]))
    >>> c.detach(), torch.autograd.grad(c.sum(), x)
    (tensor([0.7071]), (tensor([[0.0000, 0.7071]]),))
    """
    dtype = torch.promote_types(x1.dtype, x2.dtype)
    first, second, dims = _pair(x1, x2, dim)
    if watched():
        cosine, norm1, norm2 = _cosine(first, second, dims, eps)
    else:
        rest = first.shape[: first.dim() - len(dims)]
        sizes = 3, *rest, *[1] * len(dims)
        cosine, norm1, norm2 = torch.empty(sizes, dtype=accumulation(dtype), device=x1.device)

        def compare(at: Block) -> None:
            cosine[at], norm1[at], norm2[at] = _cosine(first[at], second[at], dims, eps)

        parallel_for(_blocks(first, dims), compare, first)
    out = cosine.squeeze(-1) if dims else cosine
    return keep(out.to(dtype, copy=True), cosine=cosine, norm1=norm1, norm2=norm2)  # type: ignore[return-value]


@cosine_similarity.vjp("x1", "x2")
def _(
    grad: Tensor,
    x1: Tensor,
    x2: Tensor,
    dim: int,
    eps: float,
    cosine: Tensor,
    norm1: Tensor,
    norm2: Tensor,
    needs: Needs,
) -> tuple[Tensor | None, Tensor | None]:
    first, second, dims = _pair(x1, x2, dim)
    if watched():
        # The vectors' own norms, not those that were kept, so that a second derivative goes through them.
        cosine, norm1, norm2 = _cosine(first, second, dims, eps)
    arriving = (grad.unsqueeze(-1) if dims else grad).to(cosine.dtype)
    for_first = for_second = None
    if needs["x1"]:
        dtype = x1.dtype if x1.numel() == first.numel() else cosine.dtype  # a broadcast argument's gradient is a sum
        for_first = _turned(arriving, first, second, cosine, norm1, norm2, dims, eps, dtype)
        for_first = _back(for_first, dims).sum_to_size(x1.shape)
    if needs["x2"]:
        dtype = x2.dtype if x2.numel() == first.numel() else cosine.dtype
        for_second = _turned(arriving, second, first, cosine, norm2, norm1, dims, eps, dtype)
        for_second = _back(for_second, dims).sum_to_size(x2.shape)
    return for_first, for_second


def _back(vectors: Tensor, dims: Dims) -> Tensor:
    return vectors.movedim(-1, dims[0]) if dims else vectors


def _turned(
    grad: Tensor,
    x: Tensor,
    other: Tensor,
    cosine: Tensor,
    norm: Tensor,
    norm_of_other: Tensor,
    dims: Dims,
    eps: float,
    dtype: torch.dtype,
) -> Tensor:
    """The gradient of x, whose vectors are its last dimension, in this dtype."""
    towards = grad / (norm * norm_of_other)
    back = torch.where(norm > eps, grad * cosine / norm / norm, 0)
    if watched():
        return towards * other - back * x
    out = torch.empty(x.shape, dtype=dtype, device=x.device)

    def gradient(at: Block) -> None:
        out[at] = (towards[at] * other[at]).addcmul_(back[at], x[at].to(back.dtype), value=-1)

    parallel_for(_blocks(x, dims), gradient, x)
    return out


def _cosine(x1: Tensor, x2: Tensor, dims: Dims, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Cosine and norms; the vectors are the last dimension."""
    inner = _inner(dims)
    wide = accumulation(torch.promote_types(x1.dtype, x2.dtype))
    x1, x2 = x1.to(wide), x2.to(wide)
    norm1, norm2 = (_norm(x, 2, inner, eps) for x in (x1, x2))
    product = (x1 * x2).sum(inner, keepdim=True) if inner else x1 * x2
    return product / (norm1 * norm2), norm1, norm2


def _pair(x1: Tensor, x2: Tensor, dim: int) -> tuple[Tensor, Tensor, Dims]:
    """Both in their common shape, with the vectors in the last dimension."""
    first, second = torch.broadcast_tensors(x1, x2)
    dims = _dims("cosine_similarity", first.dim(), dim)
    return _last(first, dims), _last(second, dims), dims


def _dims(name: str, count: int, dim: int | Sequence[int]) -> Dims:
    """The dimensions counted from the front; none of a tensor that has none."""
    given = (dim,) if isinstance(dim, int) else tuple(dim)
    for axis in given:
        if not -max(1, count) <= axis < max(1, count):
            raise IndexError(f"{name}: dim is {axis}, expected from {-max(1, count)} to {max(1, count) - 1}")
    return tuple(sorted({axis % count for axis in given})) if count else ()


def _last(tensor: Tensor, dims: Dims) -> Tensor:
    """A view with these dimensions last."""
    return tensor.permute([*(axis for axis in range(tensor.dim()) if axis not in dims), *dims])


def _inner(dims: Dims) -> Dims:
    """As many dimensions, counted from the end."""
    return tuple(range(-len(dims), 0))


def _blocks(vectors: Tensor, dims: Dims) -> Iterator[Block]:
    """Blocks of whole vectors, which are the last dimensions."""
    rest = vectors.dim() - len(dims)
    return blocks(vectors.shape[:rest], torch.Size(vectors.shape[rest:]).numel())


def _real(tensor: Tensor) -> Tensor:
    return tensor.real if tensor.is_complex() else tensor
