"""More that is meant as it is: quantisers, surrogates, modified gradients, kinks, tempting formulas. No alarm."""

from __future__ import annotations

import torch
from registry import SaveInput, clean, fault, positive, rand
from torch.autograd import Function


def one():
    return (rand(3, 4),)


@clean("surrogate-gradient", inputs=one)
class RoundStraightThrough(Function):
    @staticmethod
    def forward(ctx, x):
        return (4 * x).round() / 4

    @staticmethod
    def backward(ctx, grad):
        return grad


@clean("surrogate-gradient", inputs=one)
class BinaryWeights(SaveInput):
    """Straight through where the weight is small."""

    @staticmethod
    def forward(x):
        return torch.where(x >= 0, 1.0, -1.0).to(x.dtype)

    @staticmethod
    def backward(ctx, grad):
        return grad * (ctx.saved_tensors[0].abs() <= 1)


@clean("surrogate-gradient", inputs=lambda: (rand(20), 2.0))
class SpikeArctan(Function):
    @staticmethod
    def forward(ctx, v, alpha):
        ctx.save_for_backward(v)
        ctx.alpha = alpha
        return (v >= 0).to(v.dtype)

    @staticmethod
    def backward(ctx, grad):
        (v,) = ctx.saved_tensors
        return grad * ctx.alpha / 2 / (1 + (torch.pi / 2 * ctx.alpha * v) ** 2), None


@clean("surrogate-gradient", inputs=one)
class HardSampleOfSoftmax(SaveInput):
    """One-hot of the largest, differentiated as a softmax."""

    @staticmethod
    def forward(x):
        return torch.nn.functional.one_hot(x.argmax(-1), x.shape[-1]).to(x.dtype)

    @staticmethod
    def backward(ctx, grad):
        p = ctx.saved_tensors[0].softmax(-1)
        return p * (grad - (grad * p).sum(-1, keepdim=True))


@clean("gradient-modifier", inputs=lambda: (rand(3, 4), 0.1))
class ScaledGradient(Function):
    @staticmethod
    def forward(ctx, x, factor):
        ctx.factor = factor
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return ctx.factor * grad, None


@clean("gradient-modifier", inputs=one)
class UnitGradient(Function):
    """Normalises what passes."""

    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad):
        return grad / grad.norm().clamp_min(1e-12)


@fault("edge-shape", inputs=one)
class QuantiserForTwoDimensions(Function):
    """A surrogate's backward has to run for every shape, too."""

    @staticmethod
    def forward(ctx, x):
        return x.round()

    @staticmethod
    def backward(ctx, grad):
        rows, columns = grad.shape
        return grad.reshape(rows, columns)


@fault("upstream-mutated", inputs=one, also=("layout-dependent", "double-backward-wrong"))
class ReversalInPlace(Function):
    """A modifier's backward may not write into the upstream."""

    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad):
        return grad.detach().neg_().clone()


@clean("not-smooth-here", inputs=lambda: (torch.tensor([0.0, 0.0, 0.0], requires_grad=True),))
class TwiceReluAtItsKink(SaveInput):
    """Any slope between 0 and 2 will do there; autograd takes another one."""

    @staticmethod
    def forward(x):
        return x.abs() + x

    @staticmethod
    def backward(ctx, grad):
        return 2 * grad * (ctx.saved_tensors[0] >= 0)


@clean(inputs=one)
class TanhFromItsOutput(Function):
    @staticmethod
    def forward(ctx, x):
        out = x.tanh()
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx, grad):
        (out,) = ctx.saved_tensors
        return grad - grad * out * out


@clean(inputs=lambda: (positive(3, 4),))
class RootFromItsOutput(Function):
    @staticmethod
    def forward(ctx, x):
        out = x**0.25
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx, grad):
        return grad / (4 * ctx.saved_tensors[0] ** 3)


@clean(inputs=lambda: (positive(3, 4), positive(3, 4, seed=1)))
class HarmonicMean(SaveInput):
    """A formula that looks like a quotient rule gone wrong."""

    @staticmethod
    def forward(x, y):
        return 2 * x * y / (x + y)

    @staticmethod
    def backward(ctx, grad):
        x, y = ctx.saved_tensors
        part = 2 * grad / (x + y) ** 2
        return part * y * y if ctx.needs_input_grad[0] else None, part * x * x if ctx.needs_input_grad[1] else None


@clean(inputs=lambda: (rand(3, 3),))
class SymmetricPart(Function):
    """The gradient is that of the transpose, and right."""

    @staticmethod
    def forward(ctx, a):
        return (a + a.mT) / 2

    @staticmethod
    def backward(ctx, grad):
        return (grad.mT + grad) / 2


@clean(inputs=lambda: (rand(8), 0.3))
class GaussianNoise(Function):
    """Scale and draw, from the global generator."""

    @staticmethod
    def forward(ctx, x, sigma):
        noise = torch.randn_like(x)
        ctx.save_for_backward(noise)
        ctx.sigma = sigma
        return x * (1 + sigma * noise)

    @staticmethod
    def backward(ctx, grad):
        return grad * (1 + ctx.sigma * ctx.saved_tensors[0]), None
