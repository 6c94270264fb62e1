"""Reductions, normalisations along a dimension, and sorting."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gradsmith.derive.errors import Unsupported
from gradsmith.derive.rules.shaping import count, restored, spread
from gradsmith.derive.rules.table import constant, only_in_formulas, rule

# sums
rule(
    "sum",
    "input, dim=None, keepdim=False, dtype=None",
    input=lambda grad, input, dim, keepdim: spread(grad, input, dim, keepdim),
)
rule(
    "mean",
    "input, dim=None, keepdim=False, dtype=None",
    input=lambda grad, input, dim, keepdim: spread(grad / count(input, dim), input, dim, keepdim),
)
rule(
    "var",
    "input, dim=None, correction=1, keepdim=False",
    input=lambda grad, input, dim, correction, keepdim: (
        2
        * (restored(grad, input, dim, keepdim) / (count(input, dim) - correction if correction else count(input, dim)))
        * (input - _mean(input, dim))
    ),
)
rule(
    "linalg_vector_norm",
    "x, ord=2, dim=None, keepdim=False, dtype=None",
    x=lambda grad, out, x, ord, dim, keepdim: _norm(
        restored(grad, x, dim, keepdim), restored(out, x, dim, keepdim), x, ord
    ),
)
rule(
    "logsumexp",
    "input, dim, keepdim=False",
    input=lambda grad, out, input, dim, keepdim: (
        restored(grad, input, dim, keepdim) * torch.exp(input - restored(out, input, dim, keepdim))
    ),
)
rule("cumsum", "input, dim", input=lambda grad, dim: grad.flip(dim).cumsum(dim).flip(dim))

# along a dimension
rule(
    "softmax",
    "input, dim, dtype=None",
    input=lambda grad, out, dim: out * (grad - (grad * out).sum(dim, keepdim=True)),
)
rule(
    "log_softmax",
    "input, dim, dtype=None",
    input=lambda grad, out, dim: grad - torch.exp(out) * grad.sum(dim, keepdim=True),
)

# extremes: ties share the gradient of amax and amin; max and min along a dimension have one index
rule(
    "amax",
    "input, dim=(), keepdim=False",
    input=lambda grad, out, input, dim, keepdim: _shared(grad, out, input, dim, keepdim),
)
rule(
    "amin",
    "input, dim=(), keepdim=False",
    input=lambda grad, out, input, dim, keepdim: _shared(grad, out, input, dim, keepdim),
)
for _name in ("max", "min", "median", "mode"):
    rule(
        _name,
        "input, dim, keepdim=False",
        input=lambda grad, out, input, dim, keepdim: (
            grad[0]
            .new_zeros(input.shape)
            .scatter(dim, restored(out[1], input, dim, keepdim), restored(grad[0], input, dim, keepdim))
        ),
    )
rule(
    "sort",
    "input, dim=-1, descending=False",
    input=lambda grad, out, input, dim: grad[0].new_zeros(input.shape).scatter(dim, out[1], grad[0]),
)
rule(
    "topk",
    "input, k, dim=-1, largest=True, sorted=True",
    input=lambda grad, out, input, dim: grad[0].new_zeros(input.shape).scatter(dim, out[1], grad[0]),
)

constant("input, dim=None, keepdim=False", "argmax", "argmin", "all", "any", "count_nonzero")
constant("input, dim=-1, descending=False", "argsort")
only_in_formulas("input, *size", "sum_to_size")


def _mean(input: Tensor, dim: Any) -> Tensor:
    return input.mean() if dim is None else input.mean(dim, keepdim=True)


def _norm(grad: Tensor, norm: Tensor, x: Tensor, order: float) -> Tensor:
    """The gradient of a p-norm; 0 where the norm is 0, as torch has it."""
    if order == 2:
        return x * torch.where(norm == 0, 0, grad / norm)
    if order == 1:
        return grad * torch.sign(x)
    if order > 2 and order != float("inf"):
        return x * torch.abs(x) ** (order - 2) * torch.where(norm == 0, 0, grad / norm ** (order - 1))
    raise Unsupported(f"for ord={order}")


def _shared(grad: Tensor, out: Tensor, input: Tensor, dim: Any, keepdim: bool) -> Tensor:
    dim = None if isinstance(dim, tuple) and not dim else dim  # () means all of them
    chosen = input == restored(out, input, dim, keepdim)
    ties = chosen.sum() if dim is None else chosen.sum(dim, keepdim=True)
    return torch.where(chosen, restored(grad, input, dim, keepdim) / ties, 0)
