"""The bilinear map of two vectors."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from gradsmith.catalog.rows import accumulation, pieces, watched
from gradsmith.define.op import op

Maybe = TypeVar("Maybe", Tensor, Tensor | None)


@op
def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """y_no = Σ_ij a_ni W_oij b_nj + c_o: as `torch.nn.functional.bilinear`, a and b being the inputs.

    Each gradient is bilinear in what is left. For the upstream gradient g,

        ∂L/∂a_ni = Σ_o g_no Σ_j W_oij b_nj        ∂L/∂b_nj = Σ_o g_no Σ_i a_ni W_oij
        ∂L/∂W_oij = Σ_n (g_no a_ni) b_nj          ∂L/∂c_o = Σ_n g_no

    Each is one large matrix product with a small one on top, for some n at a time, where torch has a matrix product
    for every o, and for every i or j.

    Args:
        input1: (*, I), any number of leading dimensions.
        input2: (*, J), the same leading dimensions.
        weight: (O, I, J).
        bias: (O,), or None.

    Returns:
        (*, O).

    Saves: of input1, input2 and weight the two that a gradient needs. Source: PyTorch's derivatives.yaml, `_trilinear`.

    Raises RuntimeError where the shapes or dtypes do not fit together, as torch does.

    >>> bilinear(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]]), torch.eye(2)[None])
    tensor([[11.]])
    """
    dtypes = {tensor.dtype for tensor in (input1, input2, weight, bias) if tensor is not None}
    if len(dtypes) > 1:
        got = ", ".join(sorted(map(str, dtypes)))
        raise RuntimeError(f"bilinear: input1, input2, weight and bias must have one dtype, got {got}")
    out = functional.bilinear(_widened(input1), _widened(input2), _widened(weight), _widened(bias))
    return out.to(input1.dtype)


@bilinear.vjp("input1")
def _(grad: Tensor, input1_shape: torch.Size, input2: Tensor, weight: Tensor) -> Tensor:
    return _contract(grad, input2, weight.mT).reshape(input1_shape)


@bilinear.vjp("input2")
def _(grad: Tensor, input1: Tensor, input2_shape: torch.Size, weight: Tensor) -> Tensor:
    return _contract(grad, input1, weight).reshape(input2_shape)


@bilinear.vjp("weight")
def _(grad: Tensor, input1: Tensor, input2: Tensor, weight_shape: torch.Size) -> Tensor:
    upstream, first, second = _rows(grad), _rows(input1), _rows(input2)
    if watched():
        return torch.einsum("no,ni,nj->oij", upstream, first, second)
    outputs, columns, _ = weight_shape
    total = torch.zeros(outputs * columns, second.shape[1], dtype=accumulation(grad.dtype), device=grad.device)
    for piece in pieces(len(first), outputs * columns):
        products = upstream[piece, :, None] * first[piece, None, :]
        total += products.flatten(1).mT @ second[piece]
    return total.view(weight_shape)


@bilinear.vjp("bias")
def _(grad: Tensor, bias_shape: torch.Size) -> Tensor:
    return grad.sum_to_size(bias_shape)


def _contract(grad: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """Σ_o g_no Σ_i x_ni W_oij."""
    upstream, rows, weight = _rows(grad), _rows(x), _widened(weight)
    if watched():
        return torch.einsum("no,ni,oij->nj", upstream, rows, weight)
    outputs, columns, others = weight.shape
    flat = weight.transpose(0, 1).reshape(columns, outputs * others)
    out = torch.empty(len(rows), others, dtype=rows.dtype, device=grad.device)
    for piece in pieces(len(rows), outputs * others):
        product = (rows[piece] @ flat).view(-1, outputs, others)
        out[piece] = (upstream[piece, None, :] @ product).squeeze(1)
    return out


def _rows(tensor: Tensor) -> Tensor:
    return _widened(tensor).reshape(tensor.shape[:-1].numel(), tensor.shape[-1])


def _widened(tensor: Maybe) -> Maybe:
    """On the CPU half and bfloat16 in float32: what is between the two products is not rounded, and most CPUs have no
    quick product of them."""
    return tensor.to(accumulation(tensor.dtype)) if tensor is not None and tensor.is_cpu else tensor
