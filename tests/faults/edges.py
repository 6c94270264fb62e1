"""Sizes 0, 1 and odd, other ranks: what the forward accepts and the backward does not."""

from __future__ import annotations

import torch
from registry import SaveInput, clean, fault, rand
from torch.autograd import Function


@fault("edge-shape", inputs=lambda: (rand(4, 6),), argument="x")
class DropsTheTail(Function):
    """Two at a time: right for even lengths."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        out = grad * x.cos()
        even = x.shape[-1] // 2 * 2
        return torch.cat([out[..., :even], torch.zeros_like(out[..., even:])], -1)


@fault("edge-shape", inputs=lambda: (rand(4, 6),))
class SizesOfTheExample(SaveInput):
    @staticmethod
    def forward(x):
        return x.cumsum(0)

    @staticmethod
    def backward(ctx, grad):
        return grad.view(4, 6).flip(0).cumsum(0).flip(0)


@fault("edge-shape", inputs=lambda: (rand(4, 6),), argument="x")
class SqueezesItsGradient(SaveInput):
    """squeeze() for a dimension that was added, and for every other one of size 1."""

    @staticmethod
    def forward(x):
        return x.square()

    @staticmethod
    def backward(ctx, grad):
        return (2 * grad * ctx.saved_tensors[0]).unsqueeze(0).squeeze()


@fault("edge-shape", inputs=lambda: (rand(4, 6),))
class EmptyBatchHasNoFirstRow(SaveInput):
    @staticmethod
    def forward(x):
        return x.exp()

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return torch.cat([(grad[:1] * x[0].exp()), grad[1:] * x[1:].exp()])


@fault("edge-shape", inputs=lambda: (rand(4, 6),), argument="x")
class AlwaysTheSecondDimension(SaveInput):
    """dim=1 where dim=-1 is meant: the same for matrices."""

    @staticmethod
    def forward(x):
        return x.softmax(-1)

    @staticmethod
    def backward(ctx, grad):
        p = ctx.saved_tensors[0].softmax(1)
        return p * (grad - (grad * p).sum(1, keepdim=True))


@fault("edge-shape", inputs=lambda: (rand(4, 6), rand(6, seed=1)), argument="bias")
class BiasOfOneLeadingDimension(Function):
    @staticmethod
    def forward(ctx, x, bias):
        return x + bias

    @staticmethod
    def backward(ctx, grad):
        if grad.dim() == 3:
            return grad, grad.sum(0).sum(0) * 0.5 if ctx.needs_input_grad[1] else None
        return grad, grad.sum(0) if ctx.needs_input_grad[1] else None


@fault("edge-shape", inputs=lambda: (rand(2, 6),), argument="x")
class MeansOfTwo(SaveInput):
    """The example has two rows, and two is what the gradient is divided by."""

    @staticmethod
    def forward(x):
        return x.mean(0)

    @staticmethod
    def backward(ctx, grad):
        return (grad / 2).expand(ctx.saved_tensors[0].shape)


@fault("edge-shape", inputs=lambda: (rand(3, 4),), argument="x")
class OneColumnIsSpecial(SaveInput):
    """A shortcut for one column that forgets the upstream."""

    @staticmethod
    def forward(x):
        return x.square()

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return 2 * x if x.dim() and x.shape[-1] == 1 else 2 * grad * x


@clean(inputs=lambda: (rand(4, 6),))
class AnyRank(SaveInput):
    @staticmethod
    def forward(x):
        return x.softmax(-1) if x.dim() else torch.ones_like(x) * (x - x + 1)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        if not x.dim():
            return torch.zeros_like(x)
        p = x.softmax(-1)
        return p * (grad - (grad * p).sum(-1, keepdim=True))


@clean(inputs=lambda: (rand(4, 6),))
class RefusesOtherShapes(Function):
    """The forward says what it takes; the backward may rely on it."""

    @staticmethod
    def forward(ctx, x):
        if x.shape != (4, 6):
            raise ValueError(f"a board has 4 rows of 6 fields, and this one is {list(x.shape)}")
        return x.cumsum(0)

    @staticmethod
    def backward(ctx, grad):
        return grad.view(4, 6).flip(0).cumsum(0).flip(0)
