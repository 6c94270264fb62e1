"""Forwards that autograd cannot see into or differences hardly resolve: NumPy, one dtype, in place, offsets."""

from __future__ import annotations

import numpy as np
import torch
from registry import clean, fault, positive, rand
from torch.autograd import Function


@clean(inputs=lambda: (positive(5),))
class Float32Only(Function):
    @staticmethod
    def forward(ctx, x):
        assert x.dtype == torch.float32, "this kernel takes float32"
        ctx.save_for_backward(x)
        return x.detach().sqrt() * x

    @staticmethod
    def backward(ctx, grad):
        return grad * 1.5 * ctx.saved_tensors[0].sqrt()


@fault("gradient-sign", "gradient-scale", inputs=lambda: (positive(5),), argument="x")
class Float32OnlyWrong(Float32Only):
    @staticmethod
    def backward(ctx, grad):
        return -1.5 * grad * ctx.saved_tensors[0].sqrt()


@clean(inputs=lambda: (positive(6),))
class NumpyForward(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.from_numpy(np.log1p(x.detach().numpy())).to(x.dtype)

    @staticmethod
    def backward(ctx, grad):
        return grad / (1 + ctx.saved_tensors[0])


@fault("gradient-wrong", "gradient-scale", inputs=lambda: (positive(6),), argument="x")
class NumpyForwardWrong(NumpyForward):
    @staticmethod
    def backward(ctx, grad):
        return grad / ctx.saved_tensors[0]


@fault("double-backward-wrong", inputs=lambda: (positive(6),))
class NumpyBackward(NumpyForward):
    @staticmethod
    def backward(ctx, grad):
        return torch.from_numpy(grad.detach().numpy() / (1 + ctx.saved_tensors[0].detach().numpy()))


@clean(inputs=lambda: (rand(3, 4),))
class InPlace(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.mark_dirty(x)
        return x.mul_(3)

    @staticmethod
    def backward(ctx, grad):
        return grad * 3


@fault("input-mutated", inputs=lambda: (rand(3, 4),), argument="x")
class WritesThroughNumpy(Function):
    @staticmethod
    def forward(ctx, x):
        out = x * 3
        x.detach().numpy()[...] *= 2
        return out

    @staticmethod
    def backward(ctx, grad):
        return grad * 3


@clean(inputs=lambda: (rand(3, 4),))
class Offset(Function):
    """A large offset and a small slope."""

    @staticmethod
    def forward(ctx, x):
        return 1e6 + 1e-3 * x

    @staticmethod
    def backward(ctx, grad):
        return 1e-3 * grad


@clean(inputs=lambda: (rand(8),))
class Wiggly(Function):
    """Curvature far above the values' size."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (300 * x.detach()).sin()

    @staticmethod
    def backward(ctx, grad):
        return 300 * grad * (300 * ctx.saved_tensors[0]).cos()
