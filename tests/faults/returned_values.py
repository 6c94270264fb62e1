"""What backward hands back: how many, of which shape and dtype; inputs and outputs that autograd cannot see."""

from __future__ import annotations

import torch
from registry import SaveInput, clean, fault, rand
from torch.autograd import Function


def one():
    return (rand(3, 4),)


def two():
    return rand(3, 4), rand(3, 4, seed=1)


class Product(SaveInput):
    @staticmethod
    def forward(x, y):
        return x * y


def factors(ctx, grad):
    x, y = ctx.saved_tensors
    return grad * y if ctx.needs_input_grad[0] else None, grad * x if ctx.needs_input_grad[1] else None


@fault("gradient-count", inputs=two)
class ReturnsOneOfTwo(Product):
    @staticmethod
    def backward(ctx, grad):
        return factors(ctx, grad)[0]


@fault("gradient-count", inputs=one)
class ReturnsOneMore(SaveInput):
    """One too many, and no None."""

    @staticmethod
    def forward(x):
        return x.sin()

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.saved_tensors[0].cos(), grad


@fault("gradient-count", inputs=lambda: (rand(3, 4), 0.5))
class ForgetsTheOption(Function):
    @staticmethod
    def forward(ctx, x, alpha):
        ctx.alpha = alpha
        return alpha * x

    @staticmethod
    def backward(ctx, grad):
        return ctx.alpha * grad


@fault("gradient-count", inputs=lambda: (0.5, rand(3, 4)), argument="alpha")
class OptionFirst(Function):
    """The gradient stands where the option is."""

    @staticmethod
    def forward(ctx, alpha, x):
        ctx.alpha = alpha
        return alpha * x

    @staticmethod
    def backward(ctx, grad):
        return ctx.alpha * grad, None


@fault("gradient-shape", inputs=lambda: (rand(3, 4), rand(3, 1, seed=1)), argument="y")
class FlattensItsGradient(Function):
    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x, y)
        return x * y

    @staticmethod
    def backward(ctx, grad):
        x, y = factors(ctx, grad)
        return x, None if y is None else y.sum(1)


@fault(
    "gradient-shape",
    inputs=lambda: (rand(3, 4), torch.tensor(0.5, requires_grad=True)),
    argument="scale",
    says="sums it",
)
class ScaleNotSummed(SaveInput):
    @staticmethod
    def forward(x, scale):
        return x * scale

    @staticmethod
    def backward(ctx, grad):
        return factors(ctx, grad)


@fault("gradient-dtype", inputs=one, argument="x")
class GradientInSinglePrecision(SaveInput):
    """float() for a kernel, and not back."""

    @staticmethod
    def forward(x):
        return x.square()

    @staticmethod
    def backward(ctx, grad):
        return 2 * grad.float() * ctx.saved_tensors[0].float()


@fault(
    "gradient-dtype",
    inputs=lambda: (rand(3, 4, dtype=torch.float64), rand(3, 4, dtype=torch.float64, seed=1)),
    argument="x",
)
class OneGradientInHalf(Product):
    @staticmethod
    def backward(ctx, grad):
        x, y = factors(ctx, grad)
        return None if x is None else x.to(torch.float32), y


@fault("gradient-missing", inputs=two, argument="y")
class NoneForTheSecond(Product):
    @staticmethod
    def backward(ctx, grad):
        return factors(ctx, grad)[0], None


@fault("output-not-differentiable", inputs=one)
class MarksItsResidual(SaveInput):
    """A value and its log, of which the second is said to have no gradient."""

    @staticmethod
    def forward(x):
        return x.exp(), x.square()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(inputs[0])
        ctx.mark_non_differentiable(output[1])

    @staticmethod
    def backward(ctx, grad, _):
        return grad * ctx.saved_tensors[0].exp()


@fault("output-untracked", inputs=one)
class NestedOutputs(SaveInput):
    @staticmethod
    def forward(x):
        return x.sin(), (x.cos(), x.exp())

    @staticmethod
    def backward(ctx, grad, *rest):
        return grad * ctx.saved_tensors[0].cos()


@fault("output-untracked", inputs=one)
class ListOfOutputs(SaveInput):
    @staticmethod
    def forward(x):
        return [row.sin() for row in x]

    @staticmethod
    def backward(ctx, *grads):
        return torch.stack(grads) * ctx.saved_tensors[0].cos()


@fault("input-untracked", inputs=lambda: (rand(3), {"weight": rand(3, seed=1)}), argument="parameters")
class DictOfParameters(Function):
    @staticmethod
    def forward(ctx, x, parameters):
        ctx.save_for_backward(parameters["weight"])
        return x * parameters["weight"]

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.saved_tensors[0], None


@fault("input-untracked", inputs=lambda: (rand(3), (rand(3, seed=1), (rand(3, seed=2),))), argument="others")
class NestedInputs(Function):
    @staticmethod
    def forward(ctx, x, others):
        return x + others[0] + others[1][0]

    @staticmethod
    def backward(ctx, grad):
        return grad, None


@fault("undefined-upstream", inputs=one)
class ReturnsEarlyOnNone(Function):
    """Gives up both terms where only one is missing."""

    @staticmethod
    def forward(ctx, x):
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x)
        return x.sin(), x.exp()

    @staticmethod
    def backward(ctx, grad_sin, grad_exp):
        if grad_sin is None or grad_exp is None:
            return None
        (x,) = ctx.saved_tensors
        return grad_sin * x.cos() + grad_exp * x.exp()


@fault("undefined-upstream", inputs=one)
class OnlyTheFirstMayBeNone(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x)
        return x.sin(), x.exp(), x.square()

    @staticmethod
    def backward(ctx, a, b, c):
        (x,) = ctx.saved_tensors
        out = b * x.exp() + 2 * c * x
        return out if a is None else out + a * x.cos()


@clean(inputs=one)
class TrailingNone(SaveInput):
    """More values than arguments are allowed if they are None."""

    @staticmethod
    def forward(x):
        return x.sin()

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.saved_tensors[0].cos(), None, None


@clean(inputs=one)
class IntegerAndFloatOutputs(SaveInput):
    """An integer output needs no mark, and what arrives for it is of no account."""

    @staticmethod
    def forward(x):
        return x.square(), x.argmax(-1)

    @staticmethod
    def backward(ctx, grad, _):
        return 2 * grad * ctx.saved_tensors[0]


@clean(inputs=one)
class ConstantOutputMarked(Function):
    """Marked with right: it is constant almost everywhere."""

    @staticmethod
    def forward(ctx, x):
        mask = (x > 0).to(x.dtype)
        ctx.save_for_backward(mask)
        ctx.mark_non_differentiable(mask)
        return x * mask, mask

    @staticmethod
    def backward(ctx, grad, _):
        return grad * ctx.saved_tensors[0]
