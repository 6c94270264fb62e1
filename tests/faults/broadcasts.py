"""Arguments that are broadcast: sums over the dimensions that were, and what stands in their place."""

from __future__ import annotations

from registry import clean, fault, rand
from torch.autograd import Function


def affine():
    return rand(2, 3, 4), rand(4, seed=1), rand(4, seed=2)


@clean(inputs=affine)
class Affine(Function):
    """A gain and a shift a feature; any leading dimensions."""

    @staticmethod
    def forward(x, gain, shift):
        if gain.shape != x.shape[-1:] or shift.shape != x.shape[-1:]:
            raise ValueError("gain and shift have one element a feature")
        return x * gain + shift

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs[:2])

    @staticmethod
    def backward(ctx, grad):
        x, gain = ctx.saved_tensors
        need, over = ctx.needs_input_grad, tuple(range(grad.dim() - 1))
        return (
            grad * gain if need[0] else None,
            ((grad * x).sum(over) if over else grad * x) if need[1] else None,
            (grad.sum(over) if over else grad.clone()) if need[2] else None,
        )


@fault("gradient-shape", inputs=affine, argument="gain", says="sums it")
class GainNotSummed(Affine):
    @staticmethod
    def backward(ctx, grad):
        x, gain = ctx.saved_tensors
        need = ctx.needs_input_grad
        return grad * gain if need[0] else None, grad * x if need[1] else None, grad.clone() if need[2] else None


@fault("gradient-shape", inputs=affine, argument="shift")
class ShiftSummedOverRowsOnly(Affine):
    @staticmethod
    def backward(ctx, grad):
        to_x, to_gain, to_shift = Affine.backward(ctx, grad)
        return to_x, to_gain, None if to_shift is None else grad.sum(0)


@fault("gradient-scale", inputs=affine, argument="gain", says="1/6x")
class GainAveraged(Affine):
    @staticmethod
    def backward(ctx, grad):
        to_x, to_gain, to_shift = Affine.backward(ctx, grad)
        return to_x, None if to_gain is None else to_gain * to_gain.numel() / grad.numel(), to_shift


@fault("gradient-ignores-upstream", "gradient-wrong", inputs=affine, argument="shift")
class ShiftSummedOverAll(Affine):
    """The sum over the features too, the same for each."""

    @staticmethod
    def backward(ctx, grad):
        to_x, to_gain, to_shift = Affine.backward(ctx, grad)
        return to_x, to_gain, None if to_shift is None else grad.sum().expand(to_shift.shape)


@fault("gradient-swapped", "gradient-scale", inputs=affine, argument="gain")
class GainWithoutItsFactor(Affine):
    """Without x it is the gradient of the shift."""

    @staticmethod
    def backward(ctx, grad):
        to_x, to_gain, to_shift = Affine.backward(ctx, grad)
        return to_x, None if to_gain is None else grad.sum(tuple(range(grad.dim() - 1))), to_shift


@fault("gradient-ignores-upstream", inputs=affine, argument="shift", says="first row")
class ShiftOfTheFirstRow(Affine):
    @staticmethod
    def backward(ctx, grad):
        to_x, to_gain, to_shift = Affine.backward(ctx, grad)
        return to_x, to_gain, None if to_shift is None else grad.reshape(-1, grad.shape[-1])[0].clone()


@fault("gradient-shape", inputs=affine, argument="gain")
class GainOfAnotherShape(Affine):
    @staticmethod
    def backward(ctx, grad):
        to_x, to_gain, to_shift = Affine.backward(ctx, grad)
        return to_x, None if to_gain is None else to_gain[:-1], to_shift


@fault("gradient-scale", inputs=lambda: (rand(3, 4), rand(3, 1, seed=1)), argument="bias", says="one over the size 4")
class ColumnBiasAveraged(Function):
    @staticmethod
    def forward(ctx, x, bias):
        return x + bias

    @staticmethod
    def backward(ctx, grad):
        to_bias = grad.mean(-1, keepdim=True) if ctx.needs_input_grad[1] else None
        return grad, to_bias


@fault("gradient-swapped", inputs=lambda: (rand(4), rand(4, seed=1)), argument="a")
class OuterProductSlots(Function):
    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return a[:, None] * b

    @staticmethod
    def backward(ctx, grad):
        a, b = ctx.saved_tensors
        return (
            (grad.mT @ a) if ctx.needs_input_grad[0] else None,
            (grad @ b) if ctx.needs_input_grad[1] else None,
        )


@fault("gradient-missing", inputs=lambda: (rand(3, 4), rand(1, seed=1)), argument="scale")
class ScalarScaleFrozen(Function):
    @staticmethod
    def forward(ctx, x, scale):
        ctx.save_for_backward(scale)
        return x * scale

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.saved_tensors[0], None


@fault("gradient-scale", inputs=lambda: (rand(3, 4), rand(3, 4, seed=1), 0.25), argument="y", says="`alpha` = 0.25")
class AddForgetsAlpha(Function):
    @staticmethod
    def forward(ctx, x, y, alpha):
        return x + alpha * y

    @staticmethod
    def backward(ctx, grad):
        return grad, grad, None
