"""Logits that are a view, and are overwritten: two Functions around the one that does it.

torch allows a Function that writes to a view no second output. So the writing goes to an alias of the view, of which
autograd knows nothing but the memory and the count of writes; and the view itself, and what it is a view of, are tied
to an error, since their history no longer tells what they hold.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gradsmith.define.errors import CallError


class Alias(torch.autograd.Function):
    """The same memory and the same gradient, and for autograd no view."""

    @staticmethod
    def forward(ctx: Any, view: Tensor) -> Tensor:
        return view.detach()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad


class Spent(torch.autograd.Function):
    """Mark a tensor as written to; to differentiate what it holds afterwards is an error."""

    @staticmethod
    def forward(ctx: Any, view: Tensor) -> Tensor:
        ctx.mark_dirty(view)
        ctx.set_materialize_grads(False)
        return view

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> None:
        if grad is not None:
            raise CallError(
                "cross_entropy: a gradient was asked for through `logits` after inplace=True had overwritten them with "
                "their gradient. Use the logits before the loss, or leave out inplace=True."
            )


def aliased(logits: Tensor) -> Tensor:
    """An alias of logits that may be overwritten in their place."""
    alias: Tensor = Alias.apply(logits)  # type: ignore[no-untyped-call]
    Spent.apply(logits)  # type: ignore[no-untyped-call]
    return alias
