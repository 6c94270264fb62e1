"""Elementwise functions of one argument: factors, signs, kinks."""

from __future__ import annotations

import math

import torch
from registry import SaveInput, clean, fault, rand
from torch.autograd import Function


def one():
    return (rand(3, 4),)


@clean(inputs=one)
class Exp(Function):
    @staticmethod
    def forward(ctx, x):
        out = x.exp()
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx, grad):
        (out,) = ctx.saved_tensors
        return grad * out


@fault("gradient-ignores-upstream", inputs=one, argument="x")
class ExpIgnoresUpstream(Exp):
    @staticmethod
    def backward(ctx, grad):
        return ctx.saved_tensors[0]


@fault("gradient-ignores-upstream", inputs=one, argument="x", says="sum or mean")
class ExpMeanUpstream(Exp):
    @staticmethod
    def backward(ctx, grad):
        return grad.mean() * ctx.saved_tensors[0]


@fault("gradient-ignores-upstream", inputs=one, argument="x", says="first element")
class ExpFirstUpstream(Exp):
    @staticmethod
    def backward(ctx, grad):
        return grad.reshape(-1)[0] * ctx.saved_tensors[0]


@fault("gradient-scale", inputs=one, argument="x", says="lacks the factor the output")
class ExpLacksFactor(Exp):
    @staticmethod
    def backward(ctx, grad):
        return grad.clone()


@clean(inputs=one)
class Square(SaveInput):
    @staticmethod
    def forward(x):
        return x * x

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return 2 * x * grad


@fault("gradient-scale", inputs=one, argument="x", says="1/2x")
class SquareHalf(Square):
    @staticmethod
    def backward(ctx, grad):
        return ctx.saved_tensors[0] * grad


@fault("gradient-sign", inputs=one, argument="x")
class SquareNegated(Square):
    @staticmethod
    def backward(ctx, grad):
        return -2 * ctx.saved_tensors[0] * grad


@fault("gradient-scale", inputs=one, argument="x", says="1.0005x")
class SquareOffBy5e4(Square):
    @staticmethod
    def backward(ctx, grad):
        return 2.001 * ctx.saved_tensors[0] * grad


@fault("gradient-sign", inputs=lambda: ((rand(3, 4).detach() * 1e-6).requires_grad_(),), argument="x")
class TinyValuesNegated(Square):
    @staticmethod
    def backward(ctx, grad):
        return -2 * ctx.saved_tensors[0] * grad


@fault("gradient-wrong", inputs=one, argument="x", says="`x` < 0")
class SquareWrongWhereNegative(Square):
    @staticmethod
    def backward(ctx, grad):
        return 2 * ctx.saved_tensors[0].abs() * grad


@fault("gradient-scale", inputs=one, argument="x", says="once too often")
class SquareOneFactorMore(Square):
    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return 2 * x * x * grad


@clean(inputs=one)
class Relu(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, grad):
        return grad * (ctx.saved_tensors[0] > 0)


@clean(inputs=lambda: (torch.tensor([[0.0, 1.0, -1.0], [0.0, 0.0, 2.0]], requires_grad=True),))
class ReluAtZero(Relu):
    pass


@fault("gradient-wrong", inputs=one, argument="x")
class ReluForgetsMask(Relu):
    @staticmethod
    def backward(ctx, grad):
        return grad.clone()


@clean(inputs=lambda: (torch.tensor([0.0, 1.0, -2.0, 0.0], requires_grad=True),))
class AbsAtZero(SaveInput):
    @staticmethod
    def forward(x):
        return x.abs()

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.saved_tensors[0].sign()


@fault("gradient-nonfinite", inputs=lambda: (torch.tensor([0.5, 0.0, 2.0], requires_grad=True),), argument="x")
class SincNanAtZero(SaveInput):
    @staticmethod
    def forward(x):
        return torch.sinc(x / math.pi)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * (x.cos() / x - x.sin() / x**2)
