"""Functions whose arguments are of different shapes: what was broadcast must be summed."""

import torch
from benchmarks.mutants.specimen import larger, positive, rand, specimen
from torch.autograd import Function


@specimen(lambda draw: (rand(draw, 4 + larger(draw), 3), rand(draw, 3, seed=1), rand(draw, 3, seed=2)))
class ScaleShift(Function):
    @staticmethod
    def forward(ctx, x, scale, shift):
        ctx.save_for_backward(x, scale)
        return x * scale + shift

    @staticmethod
    def backward(ctx, grad):
        x, scale = ctx.saved_tensors
        return grad * scale, (grad * x).sum_to_size(scale.shape), grad.sum_to_size(scale.shape)


@specimen(lambda draw: (rand(draw, 2, 3, 4 + larger(draw)), positive(draw, 3, 1, seed=1)))
class ChannelScale(Function):
    @staticmethod
    def forward(x, scale):
        return x / scale

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, scale = inputs
        ctx.save_for_backward(x, scale)

    @staticmethod
    def backward(ctx, grad):
        x, scale = ctx.saved_tensors
        grad_scale = -(grad * x / scale**2)
        return grad / scale, grad_scale.sum_to_size(scale.shape)


@specimen(lambda draw: (rand(draw, 4 + larger(draw), 1), rand(draw, 1, 3, seed=1)))
class PairwiseDifference(Function):
    """The squared difference of each row of one and each column of the other."""

    @staticmethod
    def forward(ctx, rows, columns):
        difference = rows - columns
        ctx.save_for_backward(rows, columns)
        return difference**2

    @staticmethod
    def backward(ctx, grad):
        rows, columns = ctx.saved_tensors
        step = 2 * (rows - columns) * grad
        return step.sum(-1, keepdim=True), -step.sum(-2, keepdim=True)


@specimen(
    lambda draw: (rand(draw, 4 + larger(draw), 3), rand(draw, 4 + larger(draw), 3, seed=1), rand(draw, 1, seed=2))
)
class Gate(Function):
    """a * sigmoid(t b), with one temperature for all."""

    @staticmethod
    def forward(ctx, a, b, temperature):
        ctx.save_for_backward(a, b, temperature)
        return a * torch.sigmoid(temperature * b)

    @staticmethod
    def backward(ctx, grad):
        a, b, temperature = ctx.saved_tensors
        gate = torch.sigmoid(temperature * b)
        slope = grad * a * gate * (1 - gate)
        return grad * gate, slope * temperature, (slope * b).sum().reshape(1)


@specimen(lambda draw: (rand(draw, 5 + larger(draw), 3), rand(draw, 4, 3, seed=1)))
class SquaredDistance(Function):
    """Between each row of one and each row of the other."""

    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x, y)
        return (x.unsqueeze(-2) - y).square().sum(-1)

    @staticmethod
    def backward(ctx, grad):
        x, y = ctx.saved_tensors
        pull = 2 * grad.unsqueeze(-1) * (x.unsqueeze(-2) - y)
        return pull.sum(-2), -pull.sum_to_size(y.shape)
