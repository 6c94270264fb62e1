"""Functions of each element by itself."""

import math

import torch
from benchmarks.mutants.specimen import larger, positive, rand, specimen
from torch.autograd import Function


def one(draw):
    return (rand(draw, 3, 4 + larger(draw)),)


def two(draw):
    return rand(draw, 3, 4 + larger(draw)), positive(draw, 3, 4 + larger(draw), seed=1)


@specimen(one)
class Exp(Function):
    @staticmethod
    def forward(ctx, x):
        out = x.exp()
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx, grad_output):
        (out,) = ctx.saved_tensors
        return grad_output * out


@specimen(one)
class Cube(Function):
    @staticmethod
    def forward(x):
        return x**3

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, grad_output):
        (x,) = ctx.saved_tensors
        return 3 * x**2 * grad_output


@specimen(one)
class LegendrePolynomial3(Function):
    """The example of PyTorch's tutorial on custom Functions."""

    @staticmethod
    def forward(ctx, input):
        ctx.save_for_backward(input)
        return 0.5 * (5 * input**3 - 3 * input)

    @staticmethod
    def backward(ctx, grad_output):
        (input,) = ctx.saved_tensors
        return grad_output * 1.5 * (5 * input**2 - 1)


@specimen(lambda draw: (*one(draw), 0.5 + draw))
class DampedSine(Function):
    """exp(-rate x) sin(x), the rate a number."""

    @staticmethod
    def forward(ctx, x, rate):
        ctx.save_for_backward(x)
        ctx.rate = rate
        return torch.exp(-rate * x) * torch.sin(x)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * torch.exp(-ctx.rate * x) * (torch.cos(x) - ctx.rate * torch.sin(x)), None


@specimen(one)
class Sigmoid(Function):
    @staticmethod
    def forward(ctx, x):
        out = torch.sigmoid(x)
        ctx.save_for_backward(x, out)
        return out

    @staticmethod
    def backward(ctx, grad_output):
        _, out = ctx.saved_tensors
        return grad_output * out * (1 - out)


@specimen(one)
class Tanh(Function):
    @staticmethod
    def forward(x):
        return torch.tanh(x)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx, grad):
        (out,) = ctx.saved_tensors
        return grad * (1 - out.square())


@specimen(one)
class Swish(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx, grad_output):
        (x,) = ctx.saved_tensors
        sigmoid = torch.sigmoid(x)
        return grad_output * (sigmoid * (1 + x * (1 - sigmoid)))


@specimen(one)
class Gelu(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        cdf = 0.5 * (1 + torch.erf(x / math.sqrt(2)))
        pdf = torch.exp(-0.5 * x**2) / math.sqrt(2 * math.pi)
        return grad * (cdf + x * pdf)


@specimen(one)
class LeakyRelu(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.where(x > 0, x, 0.1 * x)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return torch.where(x > 0, grad, 0.1 * grad)


@specimen(two)
class Product(Function):
    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x, y)
        return x * y

    @staticmethod
    def backward(ctx, grad_output):
        x, y = ctx.saved_tensors
        return grad_output * y, grad_output * x


@specimen(two)
class Quotient(Function):
    @staticmethod
    def forward(numerator, denominator):
        return numerator / denominator

    @staticmethod
    def setup_context(ctx, inputs, output):
        numerator, denominator = inputs
        ctx.save_for_backward(numerator, denominator)

    @staticmethod
    def backward(ctx, grad_output):
        numerator, denominator = ctx.saved_tensors
        return grad_output / denominator, -grad_output * numerator / denominator**2


@specimen(two)
class Hypot(Function):
    @staticmethod
    def forward(ctx, x, y):
        out = torch.sqrt(x**2 + y**2)
        ctx.save_for_backward(x, y, out)
        return out

    @staticmethod
    def backward(ctx, grad):
        x, y, out = ctx.saved_tensors
        return grad * x / out, grad * y / out


@specimen(two)
class Angle(Function):
    @staticmethod
    def forward(ctx, y, x):
        ctx.save_for_backward(y, x)
        return torch.atan2(y, x)

    @staticmethod
    def backward(ctx, grad):
        y, x = ctx.saved_tensors
        squared = x * x + y * y
        return grad * x / squared, -grad * y / squared


@specimen(lambda draw: (positive(draw, 3, 4 + larger(draw)), rand(draw, 3, 4 + larger(draw), seed=1)))
class Power(Function):
    @staticmethod
    def forward(ctx, base, exponent):
        out = base**exponent
        ctx.save_for_backward(base, exponent, out)
        return out

    @staticmethod
    def backward(ctx, grad):
        base, exponent, out = ctx.saved_tensors
        return grad * exponent * base ** (exponent - 1), grad * out * torch.log(base)
