"""Nodes of the graph whose gradient is an error: how a derivative that does not exist refuses instead of being zero."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from gradsmith.define.primitive import is_differentiable

Complaint = Callable[[], Exception]


class Refuse(torch.autograd.Function):
    """Pass tensors through; raise when a derivative comes back.

    `apply(complaint, count, *tensors)` returns the first `count` of them. The others are only paths: they tie the
    results to everything that a derivative could be taken by, so that no route goes round the error.
    """

    __gradsmith__ = None  # a part of the machinery, for a checker to pass over

    @staticmethod
    def forward(complaint: Complaint, count: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(tensor.view_as(tensor) for tensor in tensors[:count])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.complaint, ctx.size = inputs[0], len(inputs)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor | None) -> Any:
        if any(grad is not None for grad in upstream):
            raise ctx.complaint()
        return (None,) * ctx.size

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        raise ctx.complaint()

    @staticmethod
    def vmap(info: Any, in_dims: Sequence[Any], complaint: Complaint, count: int, *tensors: Tensor) -> Any:
        return Refuse.apply(complaint, count, *tensors), tuple(in_dims[2 : 2 + count])  # type: ignore[no-untyped-call]


def refuse(complaint: Complaint, tensors: Sequence[Tensor], paths: Sequence[Any] = ()) -> tuple[Tensor, ...]:
    """`tensors`, and an error on every way from them back to themselves or to `paths`."""
    through = [path for path in paths if is_differentiable(path)]
    return tuple(Refuse.apply(complaint, len(tensors), *tensors, *through))  # type: ignore[no-untyped-call]


class Anchor(torch.autograd.Function):
    """An empty tensor that is tied to its arguments, but keeps none of them in memory."""

    __gradsmith__ = None  # a part of the machinery, for a checker to pass over

    @staticmethod
    def forward(*tensors: Tensor) -> Tensor:
        return torch.empty(0, dtype=torch.float32, device=tensors[0].device)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.size = len(inputs)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor | None) -> Any:
        return (None,) * ctx.size

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        device = next(t.device for t in tangents if t is not None)
        return torch.zeros(0, dtype=torch.float32, device=device)

    @staticmethod
    def vmap(info: Any, in_dims: Sequence[Any], *tensors: Tensor) -> tuple[Tensor, None]:
        return Anchor.apply(*tensors), None  # type: ignore[no-untyped-call]


def anchor(values: Sequence[Any]) -> Tensor | None:
    """A path to every differentiable tensor among `values`, or None where there is none."""
    tensors = [value for value in values if is_differentiable(value)]
    return Anchor.apply(*tensors) if tensors else None  # type: ignore[no-untyped-call]
