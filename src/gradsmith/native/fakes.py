"""The shapes and dtypes of what each native operator returns, for FakeTensor and tracing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor


def _single(tensor: Tensor, *shape: int) -> Tensor:
    return tensor.new_empty(shape, dtype=torch.float32)


def _per_row(rows: Tensor, *rest: object) -> Tensor:
    return _single(rows, rows.shape[0])


def _norm(
    input: Tensor, residual: Tensor | None, weight: Tensor | None, bias: Tensor | None, eps: float, centred: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    count = input.shape[0]
    added = input.new_empty(0) if residual is None else torch.empty_like(input)
    return torch.empty_like(input), added, _single(input, count if centred else 0), _single(input, count)


def _norm_backward(
    grad: Tensor,
    input: Tensor,
    mean: Tensor | None,
    rstd: Tensor,
    weight: Tensor | None,
    grad_added: Tensor | None,
    for_input: bool,
    for_weight: bool,
    for_bias: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    size = input.shape[1]
    dx = torch.empty_like(input) if for_input else input.new_empty(0)
    return dx, _single(input, size if for_weight else 0), _single(input, size if for_bias else 0)


def _gated(kind: int, gate: Tensor, up: Tensor) -> Tensor:
    return gate.new_empty(gate.shape)


def _gated_backward(kind: int, grad: Tensor, gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    return gate.new_empty(gate.shape), gate.new_empty(gate.shape)


def _logsumexp_backward(grad: Tensor, rows: Tensor) -> Tensor:
    return rows.new_empty(rows.shape)


def _dropout(input: Tensor, p: float, seed: int) -> Tensor:
    return input.new_empty(input.shape)


def _rotary(x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool, sign: float) -> Tensor:
    out = torch.empty_like(x)
    return out if out.stride(-1) == 1 else x.new_empty(x.shape)


_FAKES: Mapping[str, Callable[..., Any]] = {
    "cross_entropy": _per_row,
    "cross_entropy_fused": _per_row,
    "logsumexp": _per_row,
    "logsumexp_backward": _logsumexp_backward,
    "norm": _norm,
    "norm_backward": _norm_backward,
    "gated": _gated,
    "gated_backward": _gated_backward,
    "dropout": _dropout,
    "rotary": _rotary,
}


def register() -> None:
    """Tell torch.library of them, once the operators exist."""
    for name, fake in _FAKES.items():
        torch.library.register_fake(f"gradsmith_native::{name}", fake)
