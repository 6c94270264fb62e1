"""Gradients that are no derivatives on purpose, random forwards, solvers: what must raise no alarm."""

from __future__ import annotations

import torch
from registry import clean, fault, positive, rand
from torch.autograd import Function


@clean("surrogate-gradient", inputs=lambda: (rand(3, 4),))
class StraightThroughSign(Function):
    @staticmethod
    def forward(ctx, x):
        return x.sign()

    @staticmethod
    def backward(ctx, grad):
        return grad.clone()


@clean("surrogate-gradient", inputs=lambda: (rand(30),))
class Spike(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(4 * x)
        return grad * 4 * s * (1 - s)


@clean("surrogate-gradient", inputs=lambda: (rand(50), torch.tensor(0.05, requires_grad=True)))
class LearnedStep(Function):
    """A quantiser with a learned step size (LSQ): the step's gradient follows from the surrogate."""

    @staticmethod
    def forward(ctx, x, step):
        ctx.save_for_backward(x, step)
        return (x / step).round() * step

    @staticmethod
    def backward(ctx, grad):
        x, step = ctx.saved_tensors
        q = x / step
        return (
            grad.clone() if ctx.needs_input_grad[0] else None,
            (grad * (q.round() - q)).sum() if ctx.needs_input_grad[1] else None,
        )


@fault("double-backward-wrong", inputs=lambda: (rand(3, 4),), argument="x")
class SpikeSavesIntermediate(Function):
    """A surrogate's backward is still differentiated."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(torch.sigmoid(4 * x))
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx, grad):
        (s,) = ctx.saved_tensors
        return grad * 4 * s * (1 - s)


@clean("gradient-modifier", inputs=lambda: (rand(3, 4),))
class Reversal(Function):
    @staticmethod
    def forward(ctx, x, strength=0.5):
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad):
        return -ctx.strength * grad, None


@clean("gradient-modifier", inputs=lambda: (rand(3, 4),))
class ClipGradient(Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad.clamp(-0.7, 0.7)


@clean(inputs=lambda: (rand(6, 5), 0.4))
class Dropout(Function):
    @staticmethod
    def forward(ctx, x, p):
        mask = (torch.rand_like(x) > p).to(x.dtype) / (1 - p)
        ctx.save_for_backward(mask)
        return x * mask

    @staticmethod
    def backward(ctx, grad):
        (mask,) = ctx.saved_tensors
        return grad * mask, None


@fault("gradient-scale", inputs=lambda: (rand(6, 5), 0.4), argument="x")
class DropoutNotScaled(Dropout):
    @staticmethod
    def backward(ctx, grad):
        (mask,) = ctx.saved_tensors
        return grad * (mask > 0), None


@fault("nondeterministic", inputs=lambda: (rand(6, 5), 0.4))
class DropoutDrawsAnew(Dropout):
    @staticmethod
    def backward(ctx, grad):
        return grad * (torch.rand_like(grad) > 0.4) / 0.6, None


@fault("nondeterministic", inputs=lambda: (rand(6, 5),))
class NoisyBackward(Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, grad):
        import time

        return grad * 2 * (1 + 1e-9 * (time.perf_counter_ns() % 1000))


@clean("cannot-tell", inputs=lambda: (rand(6, 5),))
class OsRandomForward(Function):
    @staticmethod
    def forward(ctx, x):
        import os

        noise = int.from_bytes(os.urandom(4), "little") / 2**32
        ctx.noise = noise
        return x * (1 + noise)

    @staticmethod
    def backward(ctx, grad):
        return grad * (1 + ctx.noise)


@clean(inputs=lambda: (rand(4, 6),))
class Sort(Function):
    @staticmethod
    def forward(ctx, x):
        values, indices = x.sort(-1)
        ctx.save_for_backward(indices)
        ctx.mark_non_differentiable(indices)
        return values, indices

    @staticmethod
    def backward(ctx, grad, _):
        (indices,) = ctx.saved_tensors
        return torch.zeros_like(grad).scatter(-1, indices, grad)


@clean(inputs=lambda: (torch.tensor([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]], requires_grad=True),))
class MaxWithTies(Function):
    @staticmethod
    def forward(ctx, x):
        value, index = x.max(-1)
        ctx.save_for_backward(index)
        ctx.shape = x.shape
        return value

    @staticmethod
    def backward(ctx, grad):
        (index,) = ctx.saved_tensors
        return grad.new_zeros(ctx.shape).scatter(-1, index.unsqueeze(-1), grad.unsqueeze(-1))


@clean(inputs=lambda: (positive(5),))
class CubeRootByBisection(Function):
    """Implicit gradient of a root found by bisection: the replay is no derivative at all."""

    @staticmethod
    def forward(ctx, a):
        low, high = torch.zeros_like(a), torch.full_like(a, 10.0)
        for _ in range(60):
            middle = (low + high) / 2
            below = middle**3 < a
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        root = (low + high) / 2
        ctx.save_for_backward(root)
        return root

    @staticmethod
    def backward(ctx, grad):
        (root,) = ctx.saved_tensors
        return grad / (3 * root**2)


@fault("gradient-wrong", "gradient-scale", inputs=lambda: (positive(5),), argument="a")
class CubeRootWrong(CubeRootByBisection):
    @staticmethod
    def backward(ctx, grad):
        (root,) = ctx.saved_tensors
        return grad / (2 * root**2)


@clean(inputs=lambda: (rand(3, 4, dtype=torch.bfloat16),))
class HalfPrecision(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sigmoid()

    @staticmethod
    def backward(ctx, grad):
        s = ctx.saved_tensors[0].sigmoid()
        return grad * s * (1 - s)
