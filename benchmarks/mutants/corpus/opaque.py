"""Forwards that torch cannot differentiate: NumPy, iterations on detached values. Only differences can judge them."""

import numpy as np
import torch
from benchmarks.mutants.specimen import larger, positive, rand, specimen
from torch.autograd import Function


@specimen(lambda draw: (positive(draw, 3, 4 + larger(draw)),), reference=lambda x: x ** (1 / 3))
class NumpyCubeRoot(Function):
    @staticmethod
    def forward(ctx, x):
        out = torch.from_numpy(np.cbrt(x.detach().numpy()))
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx, grad):
        (out,) = ctx.saved_tensors
        return grad / (3 * out**2)


@specimen(lambda draw: (positive(draw, 3, 4 + larger(draw)),), reference=torch.sqrt)
class NewtonSquareRoot(Function):
    @staticmethod
    def forward(ctx, x):
        out = x.detach().clone()
        for _ in range(30):
            out = 0.5 * (out + x.detach() / out)
        ctx.save_for_backward(x)
        return out

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return 0.5 * grad / torch.sqrt(x)


@specimen(
    lambda draw: (rand(draw, 4, 3), rand(draw, 3, 5 + larger(draw), seed=1)),
    reference=lambda a, b: torch.tanh(a @ b),
)
class NumpyTanhLayer(Function):
    @staticmethod
    def forward(ctx, a, b):
        out = torch.from_numpy(np.tanh(a.detach().numpy() @ b.detach().numpy()))
        ctx.save_for_backward(a, b)
        return out

    @staticmethod
    def backward(ctx, grad):
        a, b = ctx.saved_tensors
        scaled = grad * (1 - torch.tanh(a @ b) ** 2)
        return scaled @ b.mT, (a.mT @ scaled).sum_to_size(b.shape)
