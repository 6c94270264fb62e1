"""Elementwise functions: factors, signs, terms, kinks, values."""

from __future__ import annotations

import math

import numpy as np
import torch
from registry import clean, fault, positive, rand
from torch.autograd import Function


def one():
    return (rand(3, 4),)


def two():
    return rand(3, 4), rand(3, 4, seed=1)


class SaveInput(Function):
    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*(x for x in inputs if isinstance(x, torch.Tensor)))


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


@fault("gradient-nonfinite", inputs=lambda: (torch.tensor([0.5, 0.0, 2.0], requires_grad=True),), argument="x")
class SincNanAtZero(SaveInput):
    @staticmethod
    def forward(x):
        return torch.sinc(x / math.pi)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * (x.cos() / x - x.sin() / x**2)


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
