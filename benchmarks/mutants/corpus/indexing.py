"""Gather, scatter, cumulative sums, shifts."""

import torch
from benchmarks.mutants.specimen import indices, larger, rand, specimen
from torch.autograd import Function
from torch.nn import functional


@specimen(lambda draw: (rand(draw, 6, 3 + larger(draw)), indices(draw, 6, 5)))
class Embedding(Function):
    @staticmethod
    def forward(ctx, weight, index):
        ctx.save_for_backward(index)
        ctx.shape = weight.shape
        return weight[index]

    @staticmethod
    def backward(ctx, grad):
        (index,) = ctx.saved_tensors
        return grad.new_zeros(ctx.shape).index_add(0, index, grad), None


@specimen(lambda draw: (rand(draw, 4, 5 + larger(draw)), indices(draw, 5, 4, 3)))
class Gather(Function):
    @staticmethod
    def forward(x, index):
        return x.gather(-1, index)

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, index = inputs
        ctx.save_for_backward(index)
        ctx.shape = x.shape

    @staticmethod
    def backward(ctx, grad):
        (index,) = ctx.saved_tensors
        return grad.new_zeros(ctx.shape).scatter_add(-1, index, grad), None


@specimen(lambda draw: (rand(draw, 6, 3 + larger(draw)), indices(draw, 4, 6), rand(draw, 6, 1, seed=1)))
class WeightedSegmentSum(Function):
    """Rows times weights, summed into four segments."""

    @staticmethod
    def forward(ctx, x, segment, weight):
        ctx.save_for_backward(x, segment, weight)
        return x.new_zeros(4, x.shape[1]).index_add(0, segment, x * weight)

    @staticmethod
    def backward(ctx, grad):
        x, segment, weight = ctx.saved_tensors
        rows = grad[segment]
        return rows * weight, None, (rows * x).sum(-1, keepdim=True)


@specimen(lambda draw: (rand(draw, 4, 5 + larger(draw)),))
class CumulativeSum(Function):
    @staticmethod
    def forward(ctx, x):
        return x.cumsum(-1)

    @staticmethod
    def backward(ctx, grad):
        return grad.flip(-1).cumsum(-1).flip(-1)


@specimen(lambda draw: (rand(draw, 4, 5 + larger(draw)),))
class LogCumulativeSum(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.exp().cumsum(-1).log()

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        total = x.exp().cumsum(-1)
        return x.exp() * (grad / total).flip(-1).cumsum(-1).flip(-1)


@specimen(lambda draw: (rand(draw, 3, 6 + larger(draw)),))
class Difference(Function):
    """Each element less the one before it."""

    @staticmethod
    def forward(ctx, x):
        return x[..., 1:] - x[..., :-1]

    @staticmethod
    def backward(ctx, grad):
        return functional.pad(grad, (1, 0)) - functional.pad(grad, (0, 1))


@specimen(lambda draw: (rand(draw, 3, 6 + larger(draw)),))
class LargestTwo(Function):
    @staticmethod
    def forward(ctx, x):
        values, index = x.topk(2, -1)
        ctx.save_for_backward(index)
        ctx.shape = x.shape
        return values

    @staticmethod
    def backward(ctx, grad):
        (index,) = ctx.saved_tensors
        return torch.zeros(ctx.shape, dtype=grad.dtype).scatter(-1, index, grad)


@specimen(lambda draw: (rand(draw, 2, 4, 6 + larger(draw)),))
class PixelShuffle1d(Function):
    """[batch, 2 channels, length] to [batch, channels, 2 length]."""

    @staticmethod
    def forward(ctx, x):
        batch, channels, length = x.shape
        ctx.shape = x.shape
        return x.reshape(batch, channels // 2, 2, length).transpose(2, 3).reshape(batch, channels // 2, 2 * length)

    @staticmethod
    def backward(ctx, grad):
        batch, channels, length = ctx.shape
        return grad.reshape(batch, channels // 2, length, 2).transpose(2, 3).reshape(ctx.shape)
