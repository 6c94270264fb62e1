"""Sliding windows: kernels not turned round, sums over space, pooled means and maxima, offsets of a padding."""

from __future__ import annotations

import torch
from registry import clean, fault, rand
from torch.autograd import Function
from torch.nn import functional as F  # noqa: N812


def signal():
    return rand(2, 2, 6), rand(3, 2, 3, seed=1), rand(3, seed=2)


@clean(inputs=signal)
class Conv1d(Function):
    @staticmethod
    def forward(ctx, x, weight, bias):
        if x.dim() != 3:
            raise ValueError("x is (batch, channels, length)")
        ctx.save_for_backward(x, weight)
        return F.conv1d(x, weight, bias)

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        need = ctx.needs_input_grad
        windows = x.unfold(-1, weight.shape[-1], 1)  # batch, channels, places, taps
        return (
            F.conv_transpose1d(grad, weight) if need[0] else None,
            torch.einsum("bop,bcpk->ock", grad, windows) if need[1] else None,
            grad.sum((0, 2)) if need[2] else None,
        )


@fault("gradient-transposed", inputs=signal, argument="weight", says="reversed along dimension 2")
class ConvKernelTurnedRound(Conv1d):
    @staticmethod
    def backward(ctx, grad):
        x, weight, bias = Conv1d.backward(ctx, grad)
        return x, None if weight is None else weight.flip(-1), bias


@fault("gradient-wrong", inputs=signal, argument="x")
class ConvInputKernelNotTurned(Conv1d):
    @staticmethod
    def backward(ctx, grad):
        _, weight = ctx.saved_tensors
        _, to_weight, to_bias = Conv1d.backward(ctx, grad)
        return F.conv_transpose1d(grad, weight.flip(-1)) if ctx.needs_input_grad[0] else None, to_weight, to_bias


@fault("gradient-shape", inputs=signal, argument="bias")
class ConvBiasSummedOverBatchOnly(Conv1d):
    @staticmethod
    def backward(ctx, grad):
        x, weight, bias = Conv1d.backward(ctx, grad)
        return x, weight, None if bias is None else grad.sum(0)


@fault("gradient-ignores-upstream", "gradient-wrong", inputs=signal, argument="weight")
class ConvWeightOfTheFirstSample(Conv1d):
    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        to_x, to_weight, to_bias = Conv1d.backward(ctx, grad)
        if to_weight is not None:
            to_weight = torch.einsum("bop,bcpk->ock", grad[:1], x[:1].unfold(-1, weight.shape[-1], 1))
        return to_x, to_weight, to_bias


@fault("gradient-scale", inputs=lambda: (rand(2, 3, 6),), argument="x", says="2x")
class AveragePoolNotDivided(Function):
    @staticmethod
    def forward(ctx, x):
        return F.avg_pool1d(x, 2)

    @staticmethod
    def backward(ctx, grad):
        return grad.repeat_interleave(2, -1)


@fault("gradient-wrong", inputs=lambda: (rand(2, 3, 6),), argument="x")
class MaxPoolToTheFirstOfEach(Function):
    @staticmethod
    def forward(ctx, x):
        return F.max_pool1d(x, 2)

    @staticmethod
    def backward(ctx, grad):
        return torch.stack([grad, torch.zeros_like(grad)], -1).flatten(-2)


@fault("gradient-wrong", inputs=lambda: (rand(2, 3, 4),), argument="x")
class UpsampleTakesOneOfEach(Function):
    @staticmethod
    def forward(ctx, x):
        return x.repeat_interleave(2, -1)

    @staticmethod
    def backward(ctx, grad):
        return grad[..., ::2].clone()


@fault("gradient-wrong", "gradient-transposed", inputs=lambda: (rand(3, 5),), argument="x")
class PaddingCutOffAtOneSide(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.size = x.shape[-1]
        return F.pad(x, (1, 1))

    @staticmethod
    def backward(ctx, grad):
        return grad[..., : ctx.size].clone()


@fault("gradient-transposed", inputs=lambda: (rand(4, 2, 3),), argument="x")
class ChannelsShuffledTwice(Function):
    """Two groups of two channels change places; the way back is another shuffle."""

    @staticmethod
    def forward(ctx, x):
        return x[[1, 2, 3, 0]]

    @staticmethod
    def backward(ctx, grad):
        return grad[[1, 2, 3, 0]]


@fault("gradient-wrong", inputs=lambda: (rand(8),), argument="x")
class DifferenceForgetsTheNeighbour(Function):
    """x[1:] - x[:-1] as if every element came in once."""

    @staticmethod
    def forward(ctx, x):
        return x[1:] - x[:-1]

    @staticmethod
    def backward(ctx, grad):
        return torch.cat([-grad[:1], grad])
