"""Activations, with and without parameters: inner derivatives, branches, options, what was saved."""

from __future__ import annotations

import math

import torch
from registry import SaveInput, clean, fault, rand
from torch.autograd import Function


def one():
    return (rand(3, 5),)


@clean(inputs=one)
class Silu(SaveInput):
    @staticmethod
    def forward(x):
        return x * x.sigmoid()

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        s = x.sigmoid()
        return grad * (s + x * s * (1 - s))


@fault("gradient-wrong", inputs=one, argument="x")
class SiluOneOfTwoFactors(Silu):
    """The product rule with one of its two terms."""

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.saved_tensors[0].sigmoid()


@fault("gradient-wrong", inputs=one, argument="x")
class TanhOfInput(SaveInput):
    """1 - out**2, written with the input in the place of the output."""

    @staticmethod
    def forward(x):
        return x.tanh()

    @staticmethod
    def backward(ctx, grad):
        return grad * (1 - ctx.saved_tensors[0] ** 2)


@fault("gradient-scale", inputs=one, argument="x", says="lacks the factor the output")
class SigmoidHalfOfTheProduct(Function):
    @staticmethod
    def forward(ctx, x):
        out = x.sigmoid()
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx, grad):
        return grad * (1 - ctx.saved_tensors[0])


@clean(inputs=lambda: (rand(3, 5), 0.1))
class LeakyRelu(Function):
    @staticmethod
    def forward(ctx, x, slope):
        ctx.save_for_backward(x)
        ctx.slope = slope
        return torch.where(x > 0, x, slope * x)

    @staticmethod
    def backward(ctx, grad):
        return torch.where(ctx.saved_tensors[0] > 0, grad, ctx.slope * grad), None


@fault("gradient-wrong", inputs=lambda: (rand(3, 5), 0.1), argument="x", says="`x` < 0")
class LeakyReluDoesNotLeak(LeakyRelu):
    @staticmethod
    def backward(ctx, grad):
        return grad * (ctx.saved_tensors[0] > 0), None


@fault("gradient-wrong", inputs=lambda: (rand(3, 5), 0.1), argument="x")
class LeakyReluBranchesSwapped(LeakyRelu):
    @staticmethod
    def backward(ctx, grad):
        return torch.where(ctx.saved_tensors[0] <= 0, grad, ctx.slope * grad), None


@fault("gradient-scale", inputs=lambda: (rand(3, 5), 3.0), argument="x", says="argument `beta` = 3.0")
class SoftplusForgetsBeta(Function):
    @staticmethod
    def forward(ctx, x, beta):
        ctx.save_for_backward(x)
        ctx.beta = beta
        return torch.nn.functional.softplus(x, beta)

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.beta * torch.sigmoid(ctx.beta * ctx.saved_tensors[0]), None


@clean(inputs=lambda: (rand(2, 3, 4), rand(3, seed=1)))
class PRelu(SaveInput):
    """A slope a channel, which is dimension 1."""

    @staticmethod
    def forward(x, weight):
        _, channels, _ = x.shape
        return torch.where(x > 0, x, weight.view(channels, 1) * x)

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        to_x = torch.where(x > 0, grad, weight[:, None] * grad) if ctx.needs_input_grad[0] else None
        to_weight = (grad * x.clamp(max=0)).sum((0, 2)) if ctx.needs_input_grad[1] else None
        return to_x, to_weight


@fault("gradient-wrong", inputs=lambda: (rand(2, 3, 4), rand(3, seed=1)), argument="weight")
class PReluWrongHalf(PRelu):
    @staticmethod
    def backward(ctx, grad):
        to_x, to_weight = PRelu.backward(ctx, grad)
        return to_x, None if to_weight is None else (grad * ctx.saved_tensors[0].clamp(min=0)).sum((0, 2))


@fault("gradient-shape", inputs=lambda: (rand(2, 3, 4), rand(3, seed=1)), argument="weight")
class PReluSumsTheChannels(PRelu):
    @staticmethod
    def backward(ctx, grad):
        to_x, to_weight = PRelu.backward(ctx, grad)
        return to_x, None if to_weight is None else (grad * ctx.saved_tensors[0].clamp(max=0)).sum((0, 1))


@fault("gradient-wrong", inputs=one, argument="x")
class EluTakesOutputForExp(Function):
    """exp(x) is out + 1 where x < 0."""

    @staticmethod
    def forward(ctx, x):
        out = torch.where(x > 0, x, x.exp() - 1)
        ctx.save_for_backward(x, out)
        return out

    @staticmethod
    def backward(ctx, grad):
        x, out = ctx.saved_tensors
        return grad * torch.where(x > 0, 1.0, out)


@fault("gradient-scale", inputs=one, argument="x", says="0.886")
class ErfForgetsItsConstant(SaveInput):
    @staticmethod
    def forward(x):
        return torch.erf(x)

    @staticmethod
    def backward(ctx, grad):
        return grad * torch.exp(-(ctx.saved_tensors[0] ** 2))


@fault("gradient-scale", inputs=one, argument="x", says="57.29")
class SineOfDegrees(SaveInput):
    @staticmethod
    def forward(x):
        return torch.sin(x * (math.pi / 180))

    @staticmethod
    def backward(ctx, grad):
        return grad * torch.cos(ctx.saved_tensors[0] * (math.pi / 180))


@fault("gradient-sign", inputs=one, argument="x")
class CosinePositive(SaveInput):
    @staticmethod
    def forward(x):
        return x.cos()

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.saved_tensors[0].sin()


@fault("gradient-wrong", inputs=one, argument="x", says="largest")
class HardTanhWithoutUpperBound(SaveInput):
    @staticmethod
    def forward(x):
        return x.clamp(-0.8, 0.8)

    @staticmethod
    def backward(ctx, grad):
        return grad * (ctx.saved_tensors[0] > -0.8)


@fault("gradient-wrong", inputs=one, argument="x")
class GeluOfAnotherFormula(SaveInput):
    """The forward is exact, the backward that of the tanh approximation: off by some 1e-4."""

    @staticmethod
    def forward(x):
        return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        t = torch.tanh(0.7978845608028654 * (x + 0.044715 * x**3))
        slope = 0.7978845608028654 * (1 + 3 * 0.044715 * x * x)
        return grad * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * slope)
