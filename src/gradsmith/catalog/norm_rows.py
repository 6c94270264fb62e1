"""What the norms over the last dimensions share: their arguments checked and as rows, and the native kernel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

Shape = Sequence[int]
Needs = Mapping[str, bool]
Gradients = tuple[Tensor | None, Tensor | None, Tensor | None]


def size_of(shape: Shape) -> int:
    return torch.Size(shape).numel()


def check_shape(name: str, input: Tensor, shape: list[int], weight: Tensor | None = None) -> None:
    """What native_layer_norm of torch checks, for the routes that do not go through it."""
    if not shape or list(input.shape[-len(shape) :]) != shape or len(shape) > input.dim():
        raise RuntimeError(
            f"{name}: normalized_shape is {shape}, and `input` of shape {list(input.shape)} does not end with it"
        )
    if weight is not None and list(weight.shape) != shape:
        raise RuntimeError(f"{name}: `weight` has shape {list(weight.shape)}, expected normalized_shape {shape}")


def check_residual(name: str, input: Tensor, residual: Tensor) -> None:
    if input.shape != residual.shape or input.dtype != residual.dtype:
        raise RuntimeError(
            f"{name}: `residual` is {residual.dtype} of shape {list(residual.shape)}, expected {input.dtype} of shape "
            f"{list(input.shape)} as `input`"
        )


def with_residual(needs: Needs) -> Needs:
    """The gradients that are needed, where `input` and `residual` have the same one."""
    return {**needs, "input": needs["input"] or needs["residual"]}


def native_norm(
    native: Any,
    input: Tensor,
    residual: Tensor | None,
    shape: list[int],
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    centred: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Output, what was normalised (input, with the residual where there is one), mean and reciprocal deviation."""
    rows = _rows(input, shape), None if residual is None else _rows(residual, shape)
    out, added, mean, rstd = native.norm(*rows, _single(weight), _single(bias), eps, centred)
    return out.view(input.shape), input if residual is None else added.view(input.shape), mean, rstd


def native_gradients(
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
    """The gradients of input, weight and bias; `grad_added` is what arrives at the input by another way."""
    asked = needs["input"], needs["weight"], needs.get("bias", False)
    parts = native.norm_backward(
        _rows(grad, shape),
        _rows(input, shape),
        mean,
        rstd,
        _single(weight),
        None if grad_added is None else _rows(grad_added, shape),
        *asked,
    )
    shapes = input.shape, shape, shape
    dx, dw, db = (part.view(size) if ask else None for part, size, ask in zip(parts, shapes, asked, strict=True))
    return dx, dw, db


def _rows(tensor: Tensor, shape: list[int]) -> Tensor:
    return tensor.contiguous().view(-1, size_of(shape))


def _single(values: Tensor | None) -> Tensor | None:
    return None if values is None else values.float().contiguous()
