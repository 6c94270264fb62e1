"""Products and sums of arguments, complex ones too: terms, slots, what the engine repairs."""

from __future__ import annotations

import torch
from registry import SaveInput, clean, fault, rand
from torch.autograd import Function


def two():
    return rand(3, 4), rand(3, 4, seed=1)


@clean(inputs=lambda: (rand(3, 4), rand(3, 4, seed=1), 4))
class Func(Function):
    """The tutorial's x*y + y*z + w*y with w = x*z."""

    @staticmethod
    def forward(ctx, x, y, z):
        ctx.save_for_backward(x, y)
        ctx.z = z
        w = x * z
        return x * y + y * z + w * y

    @staticmethod
    def backward(ctx, grad):
        x, y = ctx.saved_tensors
        z = ctx.z
        return (
            grad * (y + y * z) if ctx.needs_input_grad[0] else None,
            grad * (x + z + x * z) if ctx.needs_input_grad[1] else None,
            None,
        )


@fault("double-backward-wrong", inputs=lambda: (rand(3, 4), rand(3, 4, seed=1), 4), argument="x")
class FuncSavesIntermediate(Func):
    @staticmethod
    def forward(ctx, x, y, z):
        w = x * z
        ctx.save_for_backward(x, y, w)
        ctx.z = z
        return x * y + y * z + w * y

    @staticmethod
    def backward(ctx, grad):
        x, y, w = ctx.saved_tensors
        z = ctx.z
        return (
            grad * (y + y * z) if ctx.needs_input_grad[0] else None,
            grad * (x + z + w) if ctx.needs_input_grad[1] else None,
            None,
        )


@fault("leaky-guard", inputs=lambda: (rand(3, 4), rand(3, 4, seed=1), 4))
class FuncOnce(Func):
    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        return Func.backward(ctx, grad)


@fault("gradient-wrong", inputs=lambda: (rand(3, 4), rand(3, 4, seed=1), 4), argument="y", says="term")
class FuncTermMissing(Func):
    @staticmethod
    def backward(ctx, grad):
        x, _ = ctx.saved_tensors
        return Func.backward(ctx, grad)[0], grad * (ctx.z + x * ctx.z), None


@fault("gradient-count", inputs=lambda: (rand(3, 4), rand(3, 4, seed=1), 4), argument="z")
class FuncGradientOfInt(Func):
    @staticmethod
    def backward(ctx, grad):
        x, y, _ = Func.backward(ctx, grad)
        return x, y, grad.sum()


@clean(inputs=two)
class Mul(SaveInput):
    @staticmethod
    def forward(x, y):
        return x * y

    @staticmethod
    def backward(ctx, grad):
        x, y = ctx.saved_tensors
        return grad * y if ctx.needs_input_grad[0] else None, grad * x if ctx.needs_input_grad[1] else None


@fault("gradient-swapped", inputs=two, argument="x")
class MulSwapped(Mul):
    @staticmethod
    def backward(ctx, grad):
        x, y = ctx.saved_tensors
        return grad * x, grad * y


@fault("double-backward-wrong", inputs=two)
class MulOneDetached(Mul):
    """One of two gradients without a graph: the other one hides it."""

    @staticmethod
    def backward(ctx, grad):
        x, y = Mul.backward(ctx, grad)
        return x, None if y is None else y.detach()


@fault("upstream-mutated", inputs=two, also=("layout-dependent",))
class MulMutatesUpstream(Mul):
    @staticmethod
    def backward(ctx, grad):
        x, y = ctx.saved_tensors
        gx = grad * y if ctx.needs_input_grad[0] else None
        return gx, grad.detach().mul_(x) if ctx.needs_input_grad[1] else None


@fault("gradient-dtype", inputs=two, argument="y")
class MulReturnsFloat32(Mul):
    @staticmethod
    def backward(ctx, grad):
        x, y = Mul.backward(ctx, grad)
        return x, None if y is None else y.float()


@fault("gradient-shape", inputs=lambda: (rand(3, 4), rand(1, 4, seed=1)), argument="y", says="sums it")
class MulNotReduced(Mul):
    pass


@clean(inputs=lambda: (torch.randn(3, 4, dtype=torch.complex64, requires_grad=True),))
class ComplexSquare(Function):
    @staticmethod
    def forward(ctx, z):
        ctx.save_for_backward(z)
        return z * z

    @staticmethod
    def backward(ctx, grad):
        return grad * (2 * ctx.saved_tensors[0]).conj()


@fault(
    "gradient-conjugate", inputs=lambda: (torch.randn(3, 4, dtype=torch.complex64, requires_grad=True),), argument="z"
)
class ComplexTimesI(Function):
    @staticmethod
    def forward(ctx, z):
        return z.conj() * 1.0

    @staticmethod
    def backward(ctx, grad):
        return grad * 1.0


@fault(
    "gradient-conjugate",
    inputs=lambda: (torch.randn(3, 4, dtype=torch.complex64, requires_grad=True),),
)
class ComplexNotConjugated(ComplexSquare):
    @staticmethod
    def backward(ctx, grad):
        return grad * 2 * ctx.saved_tensors[0]
