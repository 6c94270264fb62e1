"""Gradients whose terms cancel: what is left is rounding, in which no two right computations agree."""

from __future__ import annotations

import torch
from registry import SaveInput, clean, fault, rand
from torch.autograd import Function


def equal():
    """Two equal tensors, where a cosine is largest and its gradient zero."""
    return rand(2, 3, 8, seed=1), rand(2, 3, 8, seed=1)


def norm(x):
    return x.norm(dim=-1, keepdim=True)


@clean(inputs=equal)
class CosineOfEqual(Function):
    """With a forward-mode rule: <v, Ju> and <J'v, u> are both rounding."""

    @staticmethod
    def forward(x, y):
        return (x * y).sum(-1) / (x.norm(dim=-1) * y.norm(dim=-1))

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def to(x, y, grad):
        cosine = (x * y).sum(-1, keepdim=True) / (norm(x) * norm(y))
        return grad.unsqueeze(-1) * (y / (norm(x) * norm(y)) - cosine * x / norm(x) ** 2)

    @staticmethod
    def backward(ctx, grad):
        x, y = ctx.saved_tensors
        need = ctx.needs_input_grad
        return CosineOfEqual.to(x, y, grad) if need[0] else None, CosineOfEqual.to(y, x, grad) if need[1] else None

    @staticmethod
    def jvp(ctx, u, v):
        x, y = ctx.saved_tensors
        along = (u * y).sum(-1) + (x * v).sum(-1)
        across = (x * u).sum(-1) / x.norm(dim=-1) ** 2 + (y * v).sum(-1) / y.norm(dim=-1) ** 2
        return along / (x.norm(dim=-1) * y.norm(dim=-1)) - (x * y).sum(-1) / (x.norm(dim=-1) * y.norm(dim=-1)) * across


@clean(inputs=lambda: (rand(3, 5), (3 * rand(3, 5).detach()).requires_grad_()))
class CosineOfParallel(CosineOfEqual):
    """In half precision the two are nearly parallel, and little of the gradient is left."""


@fault("jvp-wrong", inputs=equal)
class CosineJvpForgetsTheNorms(CosineOfEqual):
    """At equal tensors it is its one term that does not cancel."""

    @staticmethod
    def jvp(ctx, u, v):
        x, y = ctx.saved_tensors
        return ((u * y).sum(-1) + (x * v).sum(-1)) / (x.norm(dim=-1) * y.norm(dim=-1))


@fault("double-backward-wrong", inputs=equal)
class CosineKeepsTheNorms(Function):
    """The gradient is right, also where it is zero; its own derivative, which is not zero there, has lost a term."""

    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x, y, norm(x), norm(y))
        return (x * y).sum(-1) / (x.norm(dim=-1) * y.norm(dim=-1))

    @staticmethod
    def backward(ctx, grad):
        x, y, a, b = ctx.saved_tensors
        grad, cosine = grad.unsqueeze(-1), (x * y).sum(-1, keepdim=True) / (a * b)
        need = ctx.needs_input_grad
        return (
            grad * (y / (a * b) - cosine * x / a**2) if need[0] else None,
            grad * (x / (a * b) - cosine * y / b**2) if need[1] else None,
        )


@clean(inputs=lambda: (rand(3, 4, seed=1),))
class SumOfSoftmax(SaveInput):
    """One, whatever its input: the gradient is rounding everywhere."""

    @staticmethod
    def forward(x):
        return torch.softmax(x, -1).sum(-1, keepdim=True)

    @staticmethod
    def backward(ctx, grad):
        soft = torch.softmax(ctx.saved_tensors[0], -1)
        grad = grad.expand_as(soft)
        return soft * (grad - (grad * soft).sum(-1, keepdim=True))


@clean(inputs=lambda: ((50 * rand(5, seed=0).detach()).requires_grad_(),))
class SaturatedSoftmax(Function):
    """One weight is all but one: its gradient is what is left of two terms of the size of the upstream."""

    @staticmethod
    def forward(ctx, x):
        soft = torch.softmax(x, -1)
        ctx.save_for_backward(soft)
        return soft

    @staticmethod
    def backward(ctx, grad):
        (soft,) = ctx.saved_tensors
        return soft * (grad - (grad * soft).sum(-1, keepdim=True))


def norm_of_unit(x):
    return (x / norm(x)).norm(dim=-1)


@clean(inputs=lambda: (rand(2, 3, 8, seed=1),))
class NormOfUnit(SaveInput):
    @staticmethod
    def forward(x):
        return norm_of_unit(x)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        unit = x / norm(x)
        grad = grad.unsqueeze(-1) * unit
        return (grad - unit * (grad * unit).sum(-1, keepdim=True)) / norm(x)


@fault("gradient-wrong", "gradient-scale", inputs=lambda: (rand(2, 3, 8, seed=1),), argument="x")
class NormOfUnitSlightlyWrong(NormOfUnit):
    """A millionth of what cancels is left."""

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        unit = x / norm(x)
        grad = grad.unsqueeze(-1) * unit
        return (grad - (1 - 1e-6) * unit * (grad * unit).sum(-1, keepdim=True)) / norm(x)


@clean(inputs=lambda: (rand(3, 5, seed=2),))
class MeanOfCentred(SaveInput):
    """Zero, whatever its input, and so are the outputs."""

    @staticmethod
    def forward(x):
        return (x.square() - x.square().mean(-1, keepdim=True)).mean(-1)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        grad = grad.unsqueeze(-1).expand_as(x) / x.shape[-1]
        return 2 * x * (grad - grad.mean(-1, keepdim=True))
