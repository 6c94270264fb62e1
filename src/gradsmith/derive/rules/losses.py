"""Normalisation layers and losses."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gradsmith.derive.errors import Unsupported
from gradsmith.derive.rules.shaping import fit, per_element
from gradsmith.derive.rules.table import rule

rule(
    "layer_norm",
    "input, normalized_shape, weight=None, bias=None, eps=1e-05",
    input=lambda grad, input, normalized_shape, weight, eps: _layer_norm(grad, input, normalized_shape, weight, eps),
    weight=lambda grad, input, normalized_shape, weight, eps: fit(
        grad * _normalised(input, _last(normalized_shape), eps)[0], weight
    ),
    bias=lambda grad, bias: fit(grad, bias),
)
rule(
    "binary_cross_entropy_with_logits",
    "input, target, weight=None, reduction='mean', pos_weight=None",
    input=lambda grad, input, target, weight, reduction, pos_weight: (
        per_element(grad, input, _plain(reduction, weight, pos_weight)) * (torch.sigmoid(input) - target)
    ),
    target=lambda grad, input, reduction: -per_element(grad, input, reduction) * input,
)
rule(
    "nll_loss",
    "input, target, weight=None, ignore_index=-100, reduction='mean'",
    input=lambda grad, input, target, weight, ignore_index, reduction: _nll(
        grad, input, target, ignore_index, _plain(reduction, weight)
    ),
)
rule(
    "cross_entropy",
    "input, target, weight=None, ignore_index=-100, reduction='mean', label_smoothing=0.0",
    input=lambda grad, input, target, weight, ignore_index, reduction, label_smoothing: _cross_entropy(
        grad, input, target, ignore_index, _plain(reduction, weight), label_smoothing
    ),
)


def _plain(reduction: str, *weights: Tensor | None) -> str:
    if any(weight is not None for weight in weights):
        raise Unsupported("with weights")
    return reduction


def _last(normalized_shape: Any) -> Any:
    """The dimensions of a layer norm."""
    return -1 if len(normalized_shape) == 1 else tuple(range(-len(normalized_shape), 0))


def _normalised(input: Tensor, dim: Any, eps: float) -> tuple[Tensor, Tensor]:
    """(x - mean) / std, and 1 / std."""
    rstd = torch.rsqrt(input.var(dim, correction=0, keepdim=True) + eps)
    return (input - input.mean(dim, keepdim=True)) * rstd, rstd


def _layer_norm(grad: Tensor, input: Tensor, shape: Any, weight: Tensor | None, eps: float) -> Tensor:
    dim = _last(shape)
    normalised, rstd = _normalised(input, dim, eps)
    upstream = grad if weight is None else grad * weight
    along = normalised * (upstream * normalised).mean(dim, keepdim=True)
    return rstd * (upstream - upstream.mean(dim, keepdim=True) - along)


def _labels(input: Tensor, target: Tensor, ignore_index: int) -> tuple[Tensor, Tensor, int]:
    """Which rows count, their class indices with the dimension of the classes (0 in other rows), and that dimension."""
    dim = 0 if input.dim() == 1 else 1
    valid = target != ignore_index
    return valid, torch.where(valid, target, 0).unsqueeze(dim), dim


def _row_gradient(grad: Tensor, valid: Tensor, dim: int, reduction: str) -> Tensor:
    """The upstream gradient of each row's loss, before the reduction."""
    if reduction == "none":
        return grad.unsqueeze(dim)
    return grad / valid.sum() if reduction == "mean" else grad


def _nll(grad: Tensor, input: Tensor, target: Tensor, ignore_index: int, reduction: str) -> Tensor:
    valid, label, dim = _labels(input, target, ignore_index)
    rows = torch.where(valid.unsqueeze(dim), -_row_gradient(grad, valid, dim, reduction), 0)
    return grad.new_zeros(input.shape).scatter(dim, label, rows)


def _cross_entropy(
    grad: Tensor, input: Tensor, target: Tensor, ignore_index: int, reduction: str, smoothing: float
) -> Tensor:
    if target.is_floating_point():
        raise Unsupported("for class probabilities")
    valid, label, dim = _labels(input, target, ignore_index)
    expected = grad.new_zeros(input.shape).scatter(dim, label, 1.0)
    if smoothing:
        expected = expected * (1 - smoothing) + smoothing / input.shape[dim]
    rows = _row_gradient(grad, valid, dim, reduction)
    return torch.where(valid.unsqueeze(dim), rows * (torch.softmax(input, dim) - expected), 0)
