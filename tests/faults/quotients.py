"""Quotients, powers and angles of two arguments: slots, signs, factors too many, options forgotten."""

from __future__ import annotations

import torch
from registry import SaveInput, clean, fault, positive, rand
from torch.autograd import Function


def pair():
    return rand(3, 4), positive(3, 4, seed=1)


@clean(inputs=pair)
class Divide(SaveInput):
    @staticmethod
    def forward(x, y):
        return x / y

    @staticmethod
    def backward(ctx, grad):
        x, y = ctx.saved_tensors
        return grad / y if ctx.needs_input_grad[0] else None, -grad * x / y**2 if ctx.needs_input_grad[1] else None


@fault("gradient-sign", inputs=pair, argument="y")
class DivideForgetsMinus(Divide):
    @staticmethod
    def backward(ctx, grad):
        to_x, to_y = Divide.backward(ctx, grad)
        return to_x, None if to_y is None else -to_y


@fault("gradient-scale", inputs=pair, argument="y", says="the factor `y` once too often")
class DivideSquareForgotten(Divide):
    @staticmethod
    def backward(ctx, grad):
        x, y = ctx.saved_tensors
        to_x, to_y = Divide.backward(ctx, grad)
        return to_x, None if to_y is None else -grad * x / y


@fault("gradient-scale", inputs=pair, argument="x", says="the square of `y`")
class DivideMultiplies(Divide):
    @staticmethod
    def backward(ctx, grad):
        to_x, to_y = Divide.backward(ctx, grad)
        return None if to_x is None else grad * ctx.saved_tensors[1], to_y


@fault("gradient-missing", inputs=pair, argument="y", says="zero")
class DivideByAConstant(Divide):
    """Zeros where None or the gradient is due: nobody sees that y never trains."""

    @staticmethod
    def backward(ctx, grad):
        _, y = ctx.saved_tensors
        return grad / y if ctx.needs_input_grad[0] else None, torch.zeros_like(y) if ctx.needs_input_grad[1] else None


@clean(inputs=lambda: (rand(6), rand(6, seed=1)))
class Angle(SaveInput):
    @staticmethod
    def forward(y, x):
        return torch.atan2(y, x)

    @staticmethod
    def backward(ctx, grad):
        y, x = ctx.saved_tensors
        # At (0, 0) any number will do; NaN will not.
        square = (x * x + y * y).clamp_min(torch.finfo(x.dtype).tiny)
        return grad * x / square if ctx.needs_input_grad[0] else None, -grad * y / square if ctx.needs_input_grad[
            1
        ] else None


@fault("gradient-swapped", inputs=lambda: (rand(6), rand(6, seed=1)), argument="y", also=("subset-wrong",))
class AngleInTheOrderOfTheFormula(Angle):
    @staticmethod
    def backward(ctx, grad):
        return Angle.backward(ctx, grad)[::-1]


@fault("gradient-wrong", inputs=lambda: (rand(6), rand(6, seed=1)), argument="y")
class AngleNotSquared(Angle):
    """Divided by the distance, not by its square."""

    @staticmethod
    def backward(ctx, grad):
        y, x = ctx.saved_tensors
        return tuple(None if g is None else g * torch.hypot(x, y) for g in Angle.backward(ctx, grad))


@fault("gradient-scale", inputs=lambda: (positive(3, 4), 3), argument="x", says="the factor `x` once too often")
class PowerOneTooHigh(Function):
    @staticmethod
    def forward(ctx, x, n):
        ctx.save_for_backward(x)
        ctx.n = n
        return x**n

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.n * ctx.saved_tensors[0] ** ctx.n, None


@fault("gradient-scale", inputs=lambda: (rand(3, 4), 3), argument="x", says="one over the argument `n` = 3")
class PowerWithoutItsExponent(Function):
    @staticmethod
    def forward(ctx, x, n):
        ctx.save_for_backward(x)
        ctx.n = n
        return x**n

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.saved_tensors[0] ** (ctx.n - 1), None


@fault("gradient-missing", inputs=lambda: (positive(3, 4), positive(3, 4, seed=1)), argument="exponent")
class PowerOfATensor(SaveInput):
    @staticmethod
    def forward(base, exponent):
        return base**exponent

    @staticmethod
    def backward(ctx, grad):
        base, exponent = ctx.saved_tensors
        return grad * exponent * base ** (exponent - 1) if ctx.needs_input_grad[0] else None, None


@fault("gradient-scale", inputs=lambda: (rand(4), rand(4, seed=1), 0.3), argument="end", says="`weight` = 0.3")
class LerpForgetsItsWeight(Function):
    @staticmethod
    def forward(ctx, start, end, weight):
        ctx.weight = weight
        return start + weight * (end - start)

    @staticmethod
    def backward(ctx, grad):
        return grad * (1 - ctx.weight), grad.clone(), None


@fault(
    "gradient-swapped", inputs=lambda: (torch.tensor([True, False, True, True]), rand(4), rand(4, seed=1)), argument="x"
)
class WhereTheOtherWayRound(Function):
    @staticmethod
    def forward(ctx, condition, x, y):
        ctx.save_for_backward(condition)
        return torch.where(condition, x, y)

    @staticmethod
    def backward(ctx, grad):
        (condition,) = ctx.saved_tensors
        return None, grad * ~condition, grad * condition


@fault("gradient-wrong", inputs=lambda: (rand(5), rand(5, seed=1), rand(5, seed=2)), argument="x", says="term")
class AddcmulTermTwice(SaveInput):
    @staticmethod
    def forward(x, y, z):
        return x * z + x * y

    @staticmethod
    def backward(ctx, grad):
        x, y, z = ctx.saved_tensors
        need = ctx.needs_input_grad
        return (
            grad * (2 * y + z) if need[0] else None,
            grad * x if need[1] else None,
            grad * x if need[2] else None,
        )


@fault("gradient-wrong", inputs=lambda: (rand(3, 4), rand(3, 4, seed=1)), argument="y")
class SquaredDifferenceOneSide(SaveInput):
    """(x - y)**2, as if y entered linearly."""

    @staticmethod
    def forward(x, y):
        return (x - y) ** 2

    @staticmethod
    def backward(ctx, grad):
        x, y = ctx.saved_tensors
        return 2 * grad * (x - y) if ctx.needs_input_grad[0] else None, -2 * grad * x if ctx.needs_input_grad[
            1
        ] else None
