"""Normalisations: terms of a mean and a variance, the sums behind gain and shift, what was kept of the forward."""

from __future__ import annotations

import torch
from registry import SaveInput, clean, fault, rand
from torch.autograd import Function


def rows():
    return rand(4, 6), rand(6, seed=1), rand(6, seed=2)


@clean(inputs=rows)
class LayerNorm(Function):
    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return torch.nn.functional.layer_norm(x, weight.shape, weight, bias)

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        rstd = (x.var(-1, unbiased=False, keepdim=True) + 1e-5).rsqrt()
        unit = (x - x.mean(-1, keepdim=True)) * rstd
        need, over = ctx.needs_input_grad, tuple(range(x.dim() - 1))
        return (
            LayerNorm.to_x(grad * weight, unit, rstd) if need[0] else None,
            ((grad * unit).sum(over) if over else grad * unit) if need[1] else None,
            (grad.sum(over) if over else grad.clone()) if need[2] else None,
        )

    @staticmethod
    def to_x(g, unit, rstd):
        return rstd * (g - g.mean(-1, keepdim=True) - unit * (g * unit).mean(-1, keepdim=True))


def layer_norm_with(to_x):
    """`LayerNorm.backward` with another gradient of x."""

    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        rstd = (x.var(-1, unbiased=False, keepdim=True) + 1e-5).rsqrt()
        unit = (x - x.mean(-1, keepdim=True)) * rstd
        _, to_weight, to_bias = LayerNorm.backward(ctx, grad)
        return to_x(grad * weight, unit, rstd) if ctx.needs_input_grad[0] else None, to_weight, to_bias

    return staticmethod(backward)


@fault("gradient-wrong", inputs=rows, argument="x")
class LayerNormMeanTermMissing(LayerNorm):
    backward = layer_norm_with(lambda g, unit, rstd: rstd * (g - unit * (g * unit).mean(-1, keepdim=True)))


@fault("gradient-wrong", inputs=rows, argument="x")
class LayerNormStatisticsConstant(LayerNorm):
    """What a batch norm does in evaluation."""

    backward = layer_norm_with(lambda g, unit, rstd: g * rstd)


@fault("gradient-wrong", inputs=rows, argument="x")
class LayerNormSumsForMeans(LayerNorm):
    backward = layer_norm_with(
        lambda g, unit, rstd: rstd * (g - g.sum(-1, keepdim=True) - unit * (g * unit).sum(-1, keepdim=True))
    )


@fault("gradient-swapped", inputs=rows, argument="weight", also=("subset-wrong",))
class LayerNormSlots(LayerNorm):
    @staticmethod
    def backward(ctx, grad):
        to_x, to_weight, to_bias = LayerNorm.backward(ctx, grad)
        return to_x, to_bias, to_weight


@fault("double-backward-wrong", inputs=rows, argument="x")
class LayerNormKeepsStatistics(Function):
    """Fast and right once: what the forward kept has no graph."""

    @staticmethod
    def forward(ctx, x, weight, bias):
        rstd = (x.var(-1, unbiased=False, keepdim=True) + 1e-5).rsqrt()
        unit = (x - x.mean(-1, keepdim=True)) * rstd
        ctx.save_for_backward(unit, rstd, weight)
        return unit * weight + bias

    @staticmethod
    def backward(ctx, grad):
        unit, rstd, weight = ctx.saved_tensors
        need, over = ctx.needs_input_grad, tuple(range(grad.dim() - 1))
        return (
            LayerNorm.to_x(grad * weight, unit, rstd) if need[0] else None,
            ((grad * unit).sum(over) if over else grad * unit) if need[1] else None,
            (grad.sum(over) if over else grad.clone()) if need[2] else None,
        )


@fault("gradient-wrong", inputs=lambda: (rand(4, 6), rand(6, seed=1)), argument="x")
class RmsNormWeightTwice(SaveInput):
    """The variance term has the weight once too often."""

    @staticmethod
    def forward(x, weight):
        return x * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * weight

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        rstd = (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt()
        g = grad * weight
        to_x = rstd * (g - x * rstd.square() * (g * weight * x).mean(-1, keepdim=True))
        to_weight = (grad * x * rstd).reshape(-1, x.shape[-1]).sum(0)
        return to_x if ctx.needs_input_grad[0] else None, to_weight if ctx.needs_input_grad[1] else None


@fault("gradient-wrong", inputs=lambda: (rand(4, 6),), argument="x")
class SoftmaxDiagonalOnly(Function):
    """The derivative of a sigmoid."""

    @staticmethod
    def forward(ctx, x):
        out = x.softmax(-1)
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx, grad):
        (out,) = ctx.saved_tensors
        return grad * out * (1 - out)


@fault("gradient-ignores-upstream", "gradient-wrong", inputs=lambda: (rand(4, 6),), argument="x")
class LogSoftmaxForgetsTheSum(Function):
    @staticmethod
    def forward(ctx, x):
        out = x.log_softmax(-1)
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx, grad):
        return grad - ctx.saved_tensors[0].exp()


@fault("gradient-wrong", inputs=lambda: (rand(4, 6),), argument="x")
class NormalizeWithoutProjection(SaveInput):
    @staticmethod
    def forward(x):
        return x / x.square().sum(-1, keepdim=True).add(1e-6).sqrt()

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad / x.square().sum(-1, keepdim=True).add(1e-6).sqrt()


@clean(inputs=lambda: (rand(5, 3), torch.zeros(3), True), also=("input-mutated",))
class BatchNorm(Function):
    """Running statistics are written to: a warning, as they take no gradient."""

    @staticmethod
    def forward(ctx, x, running, training):
        mean = x.mean(0) if training else running
        if training:
            running.mul_(0.9).add_(mean.detach() * 0.1)
        ctx.training = training
        return x - mean

    @staticmethod
    def backward(ctx, grad):
        return grad - grad.mean(0) if ctx.training else grad, None, None


@fault("gradient-wrong", inputs=lambda: (rand(5, 3), torch.zeros(3), True), argument="x")
class BatchNormAlwaysEvaluates(BatchNorm):
    """Option and gradient disagree."""

    @staticmethod
    def backward(ctx, grad):
        return grad.clone(), None, None
