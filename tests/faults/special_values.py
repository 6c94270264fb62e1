"""Right where one usually looks: zeros, ties, large, small and negative values, tiny errors."""

from __future__ import annotations

import torch
from registry import SaveInput, clean, fault, positive, rand
from torch.autograd import Function


def six():
    return (rand(6),)


@fault("gradient-nonfinite", inputs=six, argument="x")
class AbsByDivision(SaveInput):
    @staticmethod
    def forward(x):
        return x.abs()

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * x / x.abs()


@fault("gradient-nonfinite", inputs=six, argument="x")
class SquareByQuotient(Function):
    """2 out / x, which is 2 x everywhere but at 0."""

    @staticmethod
    def forward(ctx, x):
        out = x * x
        ctx.save_for_backward(x)
        return out

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return 2 * grad * (x * x) / x


@fault("gradient-nonfinite", inputs=six, argument="x")
class SigmoidByExponentials(SaveInput):
    """inf / inf for large negative values."""

    @staticmethod
    def forward(x):
        return x.sigmoid()

    @staticmethod
    def backward(ctx, grad):
        e = (-ctx.saved_tensors[0]).exp()
        return grad * e / (1 + e) ** 2


@fault("gradient-nonfinite", inputs=six, argument="x")
class TanhByExponentials(SaveInput):
    @staticmethod
    def forward(x):
        return x.tanh()

    @staticmethod
    def backward(ctx, grad):
        e = (2 * ctx.saved_tensors[0]).exp()
        return grad * (1 - ((e - 1) / (e + 1)) ** 2)


@fault("gradient-nonfinite", inputs=lambda: (rand(3, 4),), argument="x")
class LogSoftmaxWithoutShift(SaveInput):
    @staticmethod
    def forward(x):
        return x.log_softmax(-1)

    @staticmethod
    def backward(ctx, grad):
        e = ctx.saved_tensors[0].exp()
        return grad - e / e.sum(-1, keepdim=True) * grad.sum(-1, keepdim=True)


@fault("gradient-nonfinite", inputs=lambda: (rand(3, 4),), argument="x")
class UnitRowsNanAtZero(SaveInput):
    """The forward is guarded against a row of zeros, the backward is not."""

    @staticmethod
    def forward(x):
        return x / x.square().sum(-1, keepdim=True).sqrt().clamp_min(1e-6)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        size = x.square().sum(-1, keepdim=True).sqrt()
        unit = x / size
        return (grad - unit * (grad * unit).sum(-1, keepdim=True)) / size


@fault("gradient-nonfinite", inputs=lambda: (torch.tensor([0.5, 0.0, 0.0, 2.0], requires_grad=True),), argument="x")
class MaskedTooLate(SaveInput):
    """0 * inf: torch.where on the result does not help."""

    @staticmethod
    def forward(x):
        return torch.where(x > 0, x.clamp_min(1e-30).sqrt() * x, torch.zeros_like(x))

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * (x > 0) * (0.5 * x / x.sqrt() + x.sqrt())


@fault("gradient-sign", inputs=lambda: (positive(6),), argument="x", says="negated")
class OddSquareOfThePositive(SaveInput):
    """x * |x| at values that are positive: the sign is lost for the others."""

    @staticmethod
    def forward(x):
        return x * x.abs()

    @staticmethod
    def backward(ctx, grad):
        return 2 * grad * ctx.saved_tensors[0]


@fault("gradient-wrong", "gradient-missing", "gradient-scale", inputs=six, argument="x", says="as large")
class SaturatesInBackward(SaveInput):
    @staticmethod
    def forward(x):
        return torch.asinh(x)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * (x.clamp(-30, 30) ** 2 + 1).rsqrt()


@fault("gradient-wrong", inputs=six, argument="x")
class AdditiveConstant(SaveInput):
    @staticmethod
    def forward(x):
        return x.sin()

    @staticmethod
    def backward(ctx, grad):
        return grad * (ctx.saved_tensors[0].cos() + 1e-3)


@fault("gradient-wrong", inputs=lambda: (positive(6),), argument="x")
class SmallConstantInDenominator(SaveInput):
    """1e-3 against division by zero, which the forward has not."""

    @staticmethod
    def forward(x):
        return x.log()

    @staticmethod
    def backward(ctx, grad):
        return grad / (ctx.saved_tensors[0] + 1e-3)


@fault("gradient-scale", inputs=lambda: (rand(20),), argument="x", says="0.9995x")
class SlightlyTooSmall(SaveInput):
    @staticmethod
    def forward(x):
        return x.sinh()

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.saved_tensors[0].cosh() * 0.9995


@fault("gradient-wrong", inputs=lambda: (rand(6, 5),), argument="x", says="[2, 3]")
class OneElementByFivePercent(SaveInput):
    @staticmethod
    def forward(x):
        return x.sin()

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        off = torch.ones_like(x)
        if x.dim() == 2 and x.shape[0] > 2 and x.shape[1] > 3:
            off[2, 3] = 1.05
        return grad * x.cos() * off


@fault("gradient-missing", inputs=lambda: ((rand(5).detach() * 1e-6).requires_grad_(),), argument="x")
class ZeroWhereTiny(SaveInput):
    """What is below an epsilon counts as nothing."""

    @staticmethod
    def forward(x):
        return x**2

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return 2 * grad * torch.where(x.abs() < 1e-5, torch.zeros_like(x), x)


@fault("gradient-wrong", inputs=lambda: (rand(300, 2),), argument="x", says="row 299")
class LastRowOf300(SaveInput):
    """A loop that ends one too early."""

    @staticmethod
    def forward(x):
        return x.cos()

    @staticmethod
    def backward(ctx, grad):
        out = -grad * ctx.saved_tensors[0].sin()
        return torch.cat([out[:-1], torch.zeros_like(out[-1:])]) if len(out) > 8 else out


@clean(inputs=six)
class SafeUnit(SaveInput):
    """Right at 0, too: a subgradient of the norm there is 0."""

    @staticmethod
    def forward(x):
        return x.square().sum().sqrt()

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        norm = x.square().sum()
        safe = torch.where(norm > 0, norm, torch.ones_like(norm))
        return grad * x / safe.sqrt()


@clean(inputs=lambda: (torch.tensor([1.0, 1.0, 0.5], requires_grad=True),))
class MaximumSharesTies(SaveInput):
    @staticmethod
    def forward(x):
        return x.amax(-1)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        most = (x == x.amax(-1, keepdim=True)).to(x.dtype)
        return grad.unsqueeze(-1) * most / most.sum(-1, keepdim=True)
