"""Complex arguments: conjugates, real outputs, transforms and their scale."""

from __future__ import annotations

import torch
from registry import SaveInput, clean, fault, rand
from torch.autograd import Function


def one():
    return (rand(3, 4, dtype=torch.complex64),)


def two():
    return rand(3, 4, dtype=torch.complex64), rand(3, 4, dtype=torch.complex64, seed=1)


@clean(inputs=two)
class ComplexMul(SaveInput):
    @staticmethod
    def forward(z, w):
        return z * w

    @staticmethod
    def backward(ctx, grad):
        z, w = ctx.saved_tensors
        return (
            grad * w.conj() if ctx.needs_input_grad[0] else None,
            grad * z.conj() if ctx.needs_input_grad[1] else None,
        )


@fault("gradient-conjugate", inputs=two, argument="w")
class ComplexMulOneConjugated(ComplexMul):
    @staticmethod
    def backward(ctx, grad):
        to_z, to_w = ComplexMul.backward(ctx, grad)
        return to_z, None if to_w is None else grad * ctx.saved_tensors[0]


@clean(inputs=one)
class SquaredAbs(SaveInput):
    """Real of a complex argument: 2 z times the upstream, torch's convention."""

    @staticmethod
    def forward(z):
        return z.real.square() + z.imag.square()

    @staticmethod
    def backward(ctx, grad):
        return 2 * grad * ctx.saved_tensors[0]


@fault("gradient-scale", inputs=one, argument="z", says="1/2x")
class SquaredAbsByWirtinger(SquaredAbs):
    """The derivative by conj(z) of the books is half of what torch wants."""

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.saved_tensors[0]


@fault("gradient-conjugate", inputs=one, argument="z")
class SquaredAbsConjugated(SquaredAbs):
    @staticmethod
    def backward(ctx, grad):
        return 2 * grad * ctx.saved_tensors[0].conj()


@fault("gradient-conjugate", inputs=one, argument="z")
class ComplexExp(Function):
    @staticmethod
    def forward(ctx, z):
        out = z.exp()
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.saved_tensors[0]


@fault("gradient-scale", inputs=lambda: (rand(6, dtype=torch.complex64),), argument="z", says="one over")
class FourierDividedTwice(Function):
    @staticmethod
    def forward(ctx, z):
        return torch.fft.fft(z)

    @staticmethod
    def backward(ctx, grad):
        return torch.fft.ifft(grad)


@fault("gradient-conjugate", "gradient-wrong", inputs=lambda: (rand(6, dtype=torch.complex64),), argument="z")
class FourierForwardAgain(Function):
    @staticmethod
    def forward(ctx, z):
        return torch.fft.fft(z)

    @staticmethod
    def backward(ctx, grad):
        return torch.fft.fft(grad)


@fault("gradient-scale", inputs=one, argument="z")
class ComplexTimesImaginaryUnit(Function):
    """i z: the gradient is -i times the upstream."""

    @staticmethod
    def forward(ctx, z):
        return 1j * z

    @staticmethod
    def backward(ctx, grad):
        return grad * 1.0


@clean(inputs=lambda: (rand(4), rand(4, dtype=torch.complex64, seed=1)))
class RealTimesComplex(SaveInput):
    """A real argument takes the real part of its gradient."""

    @staticmethod
    def forward(x, z):
        return x * z

    @staticmethod
    def backward(ctx, grad):
        x, z = ctx.saved_tensors
        return (grad * z.conj()).real if ctx.needs_input_grad[0] else None, grad * x if ctx.needs_input_grad[
            1
        ] else None
