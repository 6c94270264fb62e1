"""Logits that are overwritten with their gradient: who still needs them, and what becomes of them for autograd.

torch allows a Function that writes to a view no second output. So the writing goes to an alias of the logits, of which
autograd knows nothing but the memory and the count of writes; and the logits themselves, and what they are a view of,
are tied to an error, since their history no longer tells what they hold.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gradsmith.catalog import _private
from gradsmith.define.errors import CallError


def why_not(logits: Tensor) -> str | None:
    """Why these logits cannot be overwritten; None where they can.

    Who saved them for a backward of its own is found here as far as torch tells; by others, the count of writes is
    seen in that backward, which raises.
    """
    if logits.is_leaf:
        return "`logits` is a leaf that requires a gradient, and a leaf keeps its value"
    if logits.stride(1) != 1 or logits.stride(0) < logits.shape[1]:
        return f"`logits` has strides {tuple(logits.stride())}, expected rows that lie apart, each contiguous"
    if _private.use_count(logits) > 1:
        return "another operation needs `logits` for its backward, or a view of them is in use"
    for tensor in (logits, _private.base(logits)):
        result = None if tensor is None else _private.saved_result(tensor.grad_fn)
        if result is not None and result.untyped_storage().data_ptr() == logits.untyped_storage().data_ptr():
            return f"{tensor.grad_fn.name()}, which made `logits`, needs them for its backward"  # type: ignore[union-attr]
    return None


def spend(logits: Tensor) -> Tensor:
    """An alias of the logits that may be overwritten in their place; to differentiate them afterwards is an error."""
    alias: Tensor = Alias.apply(logits)  # type: ignore[no-untyped-call]
    Spent.apply(logits)  # type: ignore[no-untyped-call]
    return alias


class Alias(torch.autograd.Function):
    """The same memory and the same gradient, and for autograd no view."""

    __gradsmith__ = None  # a part of the machinery, for a checker to pass over

    @staticmethod
    def forward(ctx: Any, logits: Tensor) -> Tensor:
        return logits.detach()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad


class Spent(torch.autograd.Function):
    """Mark a tensor as written to; to differentiate what it holds afterwards is an error."""

    __gradsmith__ = None

    @staticmethod
    def forward(ctx: Any, logits: Tensor) -> Tensor:
        ctx.mark_dirty(logits)
        ctx.set_materialize_grads(False)
        return logits

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> None:
        if grad is not None:
            raise CallError(
                "cross_entropy: a gradient was asked for through `logits`, which inplace=True has "
                "overwritten with their gradient. Use the logits before the loss, or leave out inplace=True."
            )
