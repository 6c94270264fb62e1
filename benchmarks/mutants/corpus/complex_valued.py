"""Complex functions; torch's gradient of a holomorphic f is grad * conj(f')."""

import torch
from benchmarks.mutants.specimen import larger, rand, specimen
from torch.autograd import Function


def one(draw):
    return (rand(draw, 3, 2 + larger(draw), dtype=torch.complex128),)


@specimen(one)
class ComplexCube(Function):
    @staticmethod
    def forward(ctx, z):
        ctx.save_for_backward(z)
        return z**3

    @staticmethod
    def backward(ctx, grad):
        (z,) = ctx.saved_tensors
        return grad * (3 * z**2).conj()


@specimen(lambda draw: (*one(draw), rand(draw, 3, 2 + larger(draw), dtype=torch.complex128, seed=1)))
class ComplexProduct(Function):
    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return a * b

    @staticmethod
    def backward(ctx, grad):
        a, b = ctx.saved_tensors
        return grad * b.conj(), grad * a.conj()


@specimen(one)
class SquaredModulus(Function):
    @staticmethod
    def forward(ctx, z):
        ctx.save_for_backward(z)
        return z.real**2 + z.imag**2

    @staticmethod
    def backward(ctx, grad):
        (z,) = ctx.saved_tensors
        return 2 * grad * z


@specimen(lambda draw: (rand(draw, 2, 3, dtype=torch.complex128), rand(draw, 3, 3, dtype=torch.complex128, seed=1)))
class ComplexMatMul(Function):
    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return a @ b

    @staticmethod
    def backward(ctx, grad):
        a, b = ctx.saved_tensors
        return (grad @ b.mH).sum_to_size(a.shape), (a.mH @ grad).sum_to_size(b.shape)
