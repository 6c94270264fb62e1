"""Memory from `torch.empty` of which some is handed on as it came."""

from __future__ import annotations

import torch
from registry import SaveInput, clean, fault, rand


class Square(SaveInput):
    @staticmethod
    def forward(x):
        return x * x


def vector():
    return (rand(6),)


NEVER = {"inputs": vector, "says": "never written"}


@fault("nondeterministic", **NEVER, argument="x")
class GradientOfAllButTheLast(Square):
    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        out = torch.empty_like(x)
        out[:-1] = (2 * x * grad)[:-1]
        return out


@fault("nondeterministic", **NEVER, argument="x")
class GradientWhereItIsPositive(Square):
    """What it takes for zero is what was there."""

    @staticmethod
    def forward(x):
        return x.clamp(min=0) ** 2

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        out = x.new_empty(x.shape)
        out[x > 0] = (2 * x * grad)[x > 0]
        return out


@fault("nondeterministic", **NEVER, argument="x")
class AddsToWhatWasThere(Square):
    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return torch.empty(x.shape, dtype=x.dtype).add_(2 * x * grad)


@fault("nondeterministic", **NEVER)
class OutputOfAllButTheFirst(Square):
    @staticmethod
    def forward(x):
        out = torch.empty_strided(x.shape, x.stride(), dtype=x.dtype)
        out[1:] = (x * x)[1:]
        return out

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return 2 * x * grad


@fault("nondeterministic", **NEVER)
class PlacesThatNobodySet(torch.autograd.Function):
    """An index that was never written: most of the time it is zero."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x[0] * x[0]

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        places = torch.empty(1, dtype=torch.int64) % 6
        return torch.zeros_like(x).index_add(0, places, (2 * x[0] * grad).reshape(1))


@clean(inputs=vector)
class WritesEveryElement(Square):
    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        out = torch.empty_like(x)
        out[...] = 2 * x
        return out.mul_(grad)


@clean(inputs=lambda: (rand(3, 4),))
class OverwritesWithAProduct(torch.autograd.Function):
    """`out=` of memory that is not read: beta is 0 there."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.mm(x, x.mT.contiguous(), out=torch.empty(x.shape[0], x.shape[0], dtype=x.dtype))

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return torch.addmm(torch.empty_like(x), grad + grad.mT, x, beta=0)
