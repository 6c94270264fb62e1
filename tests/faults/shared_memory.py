"""Inputs whose elements share memory, as `expand` and `unfold` make them."""

from __future__ import annotations

import torch
from registry import SaveInput, clean, fault, rand


def square(x):
    return x * x


class Square(SaveInput):
    forward = staticmethod(square)


def matrix():
    return (rand(3, 4),)


@fault("layout-dependent", inputs=matrix, argument="x", says="broadcast")
class GradientInTheStridesOfTheInput(Square):
    """Nothing can be written where one number stands for many."""

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        out = torch.empty_strided(x.shape, x.stride(), dtype=x.dtype)
        return out.copy_(2 * x * grad)


@fault("layout-dependent", inputs=matrix, argument="x", says="overlapping")
class GradientInTheMemoryOfTheInput(Square):
    """Thinks of `expand` and not of `unfold`: there each row writes over the one before."""

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        x = x.contiguous() if 0 in x.stride() else x
        whole = torch.zeros(x.untyped_storage().nbytes() // x.element_size(), dtype=x.dtype)
        place = whole.as_strided(x.shape, x.stride(), x.storage_offset())
        place.copy_(2 * x * grad)
        return place.clone()


@fault("layout-dependent", inputs=matrix, argument="x", says="broadcast")
class ReadsRowsEndToEnd(Square):
    """Looks at the last stride alone: a row that is repeated has that of a contiguous one."""

    @staticmethod
    def forward(x):
        x = x.contiguous() if x.dim() != 2 or x.stride(-1) != 1 else x
        rows = x.as_strided(x.shape, (x.shape[1], 1)) if x.dim() == 2 else x
        return rows * rows

    @staticmethod
    def backward(ctx, grad):
        return 2 * ctx.saved_tensors[0] * grad


@clean(inputs=matrix)
class GradientOfItsOwn(Square):
    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        out = torch.empty_like(x)
        return out.copy_(2 * x * grad)


@clean(inputs=matrix)
class FirstLargest(SaveInput):
    """Repeated values tie, and which of them gets the gradient may go by the memory: that is no fault."""

    @staticmethod
    def places(x):
        order = sorted(range(x.dim()), key=lambda d: x.stride(d))
        flipped = [0] if order and x.dim() and 0 in x.stride() else []
        at = x.flip(flipped).argmax(0, keepdim=True)
        return x.shape[0] - 1 - at if flipped else at

    @staticmethod
    def forward(x):
        return x.gather(0, FirstLargest.places(x)).sum(0)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        grad = grad.unsqueeze(0) if x.dim() else grad
        return torch.zeros_like(x).scatter(0, FirstLargest.places(x), grad)
