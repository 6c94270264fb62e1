"""Rows of a table by their numbers."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from gradsmith.catalog.rows import accumulation, watched
from gradsmith.define._private import functorch_active
from gradsmith.define.op import op


def _for_weight(
    grad: Tensor, input: Tensor, weight_shape: torch.Size, padding_idx: int | None, scale_grad_by_freq: bool
) -> Tensor:
    rows = weight_shape[0]
    ignored = -1 if padding_idx is None else padding_idx % rows
    if watched() or grad.is_complex() or not grad.numel():
        return _differentiably(grad, input, weight_shape, ignored, scale_grad_by_freq)
    # Row v of the gradient is the sum over a bag: the places of v. A bag is summed in float32 and rounded once, and
    # for the mean over occurrences there is a mode.
    flat = input.reshape(-1)
    order = torch.argsort(flat)
    starts = torch.searchsorted(flat[order], torch.arange(rows, dtype=flat.dtype, device=flat.device))
    mode = "mean" if scale_grad_by_freq else "sum"
    result = functional.embedding_bag(order, grad.reshape(flat.numel(), -1), starts, mode=mode)
    if ignored >= 0:
        result[ignored] = 0
    return result


def _differentiably(
    grad: Tensor, input: Tensor, weight_shape: torch.Size, ignored: int, scale_grad_by_freq: bool
) -> Tensor:
    rows = weight_shape[0]
    # A row that occurs often is a long sum, which half precision could not hold; `project` rounds it once.
    wide = grad.to(accumulation(grad.dtype))
    if not input.numel():  # aten's function has no second derivative there
        return wide.new_zeros(weight_shape).index_add(0, input.reshape(-1), wide.reshape(0, weight_shape[1]))
    if scale_grad_by_freq:
        one = torch.ones((), dtype=wide.dtype, device=wide.device).expand(input.numel())
        counts = torch.zeros(rows, dtype=wide.dtype, device=wide.device).index_add(0, input.reshape(-1), one)
        wide = wide / counts[input].unsqueeze(-1)
    return torch.ops.aten.embedding_dense_backward(wide, input, rows, ignored, False)  # type: ignore[no-any-return]


@op(weight=_for_weight)
def embedding(
    input: Tensor, weight: Tensor, padding_idx: int | None = None, *, scale_grad_by_freq: bool = False
) -> Tensor:
    """weight[input], as `torch.nn.functional.embedding`.

    With y_n = W_{i(n)} and g = ∂L/∂y, a row's gradient is the sum over the places where it was looked up,

        ∂L/∂W_v = Σ_{n: i(n) = v} g_n

    which is 0 for v = padding_idx by definition, and with scale_grad_by_freq is divided by the number of its terms.

    Args:
        input: indices of any shape, int32 or int64, from 0 to num_embeddings - 1.
        weight: (num_embeddings, embedding_dim).
        padding_idx: a row that gets no gradient; may be negative, counted from the end.
        scale_grad_by_freq: whether a row's gradient is the mean over its occurrences in place of the sum.

    Returns:
        (*input.shape, embedding_dim), in the dtype of weight. The gradient of weight is dense. For half and bfloat16 it
        is summed in float32: in bfloat16, a sum of ones ends at 256.

    Saves: input, as torch does. Source: PyTorch's derivatives.yaml, `embedding`.

    Raises IndexError for an index out of range, and ValueError for a padding_idx out of range.

    >>> weight = torch.zeros(3, 2, requires_grad=True)
    >>> torch.autograd.grad(embedding(torch.tensor([0, 2, 2]), weight).sum(), weight)
    (tensor([[1., 1.],
            [0., 0.],
            [2., 2.]]),)
    """
    rows = weight.shape[0]
    if padding_idx is not None and not -rows <= padding_idx < rows:
        raise ValueError(f"embedding: padding_idx must be from {-rows} to {rows - 1}, got {padding_idx}")
    try:
        return functional.embedding(input, weight, None if padding_idx is None else padding_idx % rows)
    except IndexError as error:
        raise IndexError(f"embedding: {_out_of_range(input, rows)}") from error


def _out_of_range(input: Tensor, rows: int) -> str:
    expected = f"input must hold indices from 0 to {rows - 1}, the rows of weight"
    return expected if functorch_active() else f"{expected}; got {int(input.min())} to {int(input.max())}"
