"""What a formula returned, made into the gradient of its argument or refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gradsmith.define.errors import FormulaError
from gradsmith.define.primitive import Meta


def project(op: str, argument: str, grad: Any, meta: Meta, upstream: Sequence[Any]) -> Tensor:
    """Give `grad` the shape and dtype of its argument.

    Broadcasting is undone: a gradient with the shape of an output (one of `upstream`), whose argument was broadcast
    to that shape, is summed over the repeated dimensions. A floating-point dtype is cast, and the imaginary part of
    the gradient of a real argument is dropped, as the engine does. Anything else is an error of the formula.
    """
    if isinstance(grad, Tensor) and (grad.shape, grad.dtype, grad.device) == meta:
        return grad
    where = f"op {op}: the formula for `{argument}` returned"
    if not isinstance(grad, Tensor):
        hint = f" If the gradient is zero, write `{argument}=None`." if grad is None else ""
        raise FormulaError(f"{where} {_kind(grad)}, expected a tensor of shape {tuple(meta.shape)}.{hint}")
    if not (grad.is_floating_point() or grad.is_complex()):
        raise FormulaError(f"{where} a tensor of {grad.dtype}, expected {meta.dtype}: a gradient is no integer")
    if grad.device != meta.device:
        raise FormulaError(f"{where} a tensor on {grad.device}, expected {meta.device}, where the argument is")
    if grad.shape != meta.shape:
        outputs = [one.shape for one in upstream if one is not None]
        if grad.shape not in outputs or not _broadcast_from(meta.shape, grad.shape):
            raise FormulaError(
                f"{where} shape {tuple(grad.shape)}, expected {tuple(meta.shape)}. Sum over the dimensions that the "
                f"argument does not have, or reshape to `{argument}_shape`."
            )
        grad = grad.sum_to_size(meta.shape)
    return _cast(grad, meta)


def repair(grad: Any, meta: Meta) -> Tensor:
    """What the engine makes of a gradient that a classic backward returned: None is zero, and shapes are summed."""
    if grad is None:
        return meta.zeros()
    if grad.shape != meta.shape:
        grad = grad.sum_to_size(meta.shape)
    return _cast(grad, meta)


def _cast(grad: Tensor, meta: Meta) -> Tensor:
    if grad.dtype == meta.dtype:
        return grad
    if grad.is_complex() and not meta.dtype.is_complex:
        grad = grad.real
    return grad.to(meta.dtype)


def _broadcast_from(small: torch.Size, large: torch.Size) -> bool:
    """Whether a tensor of shape `small` broadcasts to `large`."""
    if len(small) > len(large):
        return False
    tail = large[len(large) - len(small) :]
    return all(one in (1, other) for one, other in zip(small, tail, strict=True))


def _kind(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"
