"""Reductions: sizes divided by or forgotten, the wrong axis, what is not linear, products and maxima."""

from __future__ import annotations

from registry import SaveInput, clean, fault, positive, rand
from torch.autograd import Function


def one():
    return (rand(3, 4),)


class KeepsShape(Function):
    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.shape = inputs[0].shape


@clean(inputs=one)
class Mean(KeepsShape):
    @staticmethod
    def forward(x):
        return x.mean()

    @staticmethod
    def backward(ctx, grad):
        return (grad / max(ctx.shape.numel(), 1)).expand(ctx.shape)


@fault("gradient-scale", inputs=one, argument="x", says="12 elements of `x`")
class MeanLikeSum(Mean):
    @staticmethod
    def backward(ctx, grad):
        return grad.expand(ctx.shape)


@fault("gradient-scale", inputs=one, argument="x", says="size 4 of `x`")
class MeanOfOneDimension(Mean):
    @staticmethod
    def backward(ctx, grad):
        return (grad / max(ctx.shape[0], 1)).expand(ctx.shape)


@fault("gradient-scale", inputs=one, argument="x", says="one over the batch size 3")
class RowMeansDividedByAll(KeepsShape):
    @staticmethod
    def forward(x):
        return x.mean(-1)

    @staticmethod
    def backward(ctx, grad):
        return (grad.unsqueeze(-1) / ctx.shape.numel()).expand(ctx.shape)


@fault("gradient-shape", inputs=one, argument="x")
class RowSumsNotExpanded(KeepsShape):
    @staticmethod
    def forward(x):
        return x.sum(-1)

    @staticmethod
    def backward(ctx, grad):
        return grad.unsqueeze(-1)


@fault("gradient-transposed", inputs=lambda: (rand(4, 4),), argument="x")
class RowSumsExpandedAlongTheOther(KeepsShape):
    @staticmethod
    def forward(x):
        return x.sum(-1)

    @staticmethod
    def backward(ctx, grad):
        return grad.expand(ctx.shape)


@fault("gradient-ignores-upstream", inputs=one, argument="x", says="sum or mean")
class RowSumsOfAllUpstream(KeepsShape):
    @staticmethod
    def forward(x):
        return x.sum(-1)

    @staticmethod
    def backward(ctx, grad):
        return grad.mean().expand(ctx.shape)


@clean(inputs=one)
class LogSumExp(SaveInput):
    @staticmethod
    def forward(x):
        return x.logsumexp(-1)

    @staticmethod
    def backward(ctx, grad):
        return grad.unsqueeze(-1) * ctx.saved_tensors[0].softmax(-1)


@fault("gradient-wrong", inputs=one, argument="x")
class LogSumExpNotNormalised(LogSumExp):
    @staticmethod
    def backward(ctx, grad):
        return grad.unsqueeze(-1) * ctx.saved_tensors[0].exp()


@fault("gradient-wrong", inputs=lambda: (rand(4, 4),), argument="x")
class LogSumExpOverTheOtherAxis(LogSumExp):
    @staticmethod
    def backward(ctx, grad):
        return grad.unsqueeze(-1) * ctx.saved_tensors[0].softmax(0)


@fault("gradient-scale", inputs=lambda: (rand(5),), argument="x", says="one over the output")
class NormDividedTwice(SaveInput):
    @staticmethod
    def forward(x):
        return x.square().sum().sqrt()

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * x / x.square().sum().clamp_min(1e-300)


@clean(inputs=lambda: (rand(4, 6),))
class Variance(SaveInput):
    @staticmethod
    def forward(x):
        if x.shape[-1] < 2:
            raise ValueError("a variance takes two values at least")
        return x.var(-1)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad.unsqueeze(-1) * 2 * (x - x.mean(-1, keepdim=True)) / (x.shape[-1] - 1)


@fault("gradient-scale", inputs=lambda: (rand(4, 6),), argument="x", says="0.833")
class VarianceBiased(Variance):
    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad.unsqueeze(-1) * 2 * (x - x.mean(-1, keepdim=True)) / x.shape[-1]


@fault("gradient-wrong", inputs=lambda: (rand(4, 6),), argument="x")
class VarianceNotCentred(Variance):
    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad.unsqueeze(-1) * 2 * x / (x.shape[-1] - 1)


@fault("gradient-nonfinite", inputs=lambda: (positive(5),), argument="x")
class ProductDividesByZero(SaveInput):
    @staticmethod
    def forward(x):
        return x.prod()

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * x.prod() / x


@fault("gradient-wrong", inputs=one, argument="x")
class MaximumToEverybody(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.shape = x.shape
        return x.max(-1).values

    @staticmethod
    def backward(ctx, grad):
        return grad.unsqueeze(-1).expand(ctx.shape)


@fault("gradient-wrong", inputs=lambda: (rand(7, 3),), argument="x")
class CumsumNotReversed(Function):
    @staticmethod
    def forward(ctx, x):
        return x.cumsum(0)

    @staticmethod
    def backward(ctx, grad):
        return grad.cumsum(0)


@fault("gradient-transposed", inputs=lambda: (rand(7, 3),), argument="x", says="reversed along dimension 0")
class CumsumReversedOnce(Function):
    @staticmethod
    def forward(ctx, x):
        return x.cumsum(0)

    @staticmethod
    def backward(ctx, grad):
        return grad.flip(0).cumsum(0)


@fault("gradient-ignores-upstream", "gradient-wrong", inputs=one, argument="x", says="output 1")
class MomentsForgetOne(SaveInput):
    """Mean and mean square, the gradient of the second left out."""

    @staticmethod
    def forward(x):
        return x.mean(-1), x.square().mean(-1)

    @staticmethod
    def backward(ctx, grad_mean, grad_square):
        (x,) = ctx.saved_tensors
        return (grad_mean.unsqueeze(-1) / x.shape[-1]).expand(x.shape)


@fault("gradient-swapped", "gradient-wrong", inputs=one, argument="x")
class MomentsInTheOtherOrder(SaveInput):
    @staticmethod
    def forward(x):
        return x.mean(-1), x.square().mean(-1)

    @staticmethod
    def backward(ctx, grad_square, grad_mean):
        (x,) = ctx.saved_tensors
        return (grad_mean.unsqueeze(-1) + 2 * x * grad_square.unsqueeze(-1)) / x.shape[-1]
