"""Sums, means, norms and other functions of many elements."""

import torch
from benchmarks.mutants.specimen import larger, positive, rand, specimen
from torch.autograd import Function


def one(draw):
    return (rand(draw, 4, 3 + larger(draw)),)


@specimen(one)
class SumOfSquares(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (x**2).sum(-1)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return 2 * x * grad.unsqueeze(-1)


@specimen(one)
class MeanSquare(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.square().mean()

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * 2 * x / x.numel()


@specimen(one)
class RowMean(Function):
    @staticmethod
    def forward(x):
        return x.mean(-1)

    @staticmethod
    def setup_context(ctx, inputs, output):
        (x,) = inputs
        ctx.shape = x.shape

    @staticmethod
    def backward(ctx, grad):
        return grad.unsqueeze(-1).expand(ctx.shape) / ctx.shape[-1]


@specimen(one)
class Variance(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.var(-1, correction=0)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        centred = x - x.mean(-1, keepdim=True)
        return 2 * grad.unsqueeze(-1) * centred / x.shape[-1]


@specimen(one)
class Norm(Function):
    @staticmethod
    def forward(ctx, x):
        out = x.square().sum(-1, keepdim=True).sqrt()
        ctx.save_for_backward(x, out)
        return out

    @staticmethod
    def backward(ctx, grad):
        x, out = ctx.saved_tensors
        return torch.where(out > 0, grad * x / out, torch.zeros_like(x))


@specimen(one)
class LogSumExp(Function):
    @staticmethod
    def forward(ctx, x):
        out = torch.logsumexp(x, -1)
        ctx.save_for_backward(x, out)
        return out

    @staticmethod
    def backward(ctx, grad):
        x, out = ctx.saved_tensors
        return grad.unsqueeze(-1) * torch.exp(x - out.unsqueeze(-1))


@specimen(lambda draw: (positive(draw, 4, 3 + larger(draw)),))
class GeometricMean(Function):
    @staticmethod
    def forward(ctx, x):
        out = torch.exp(torch.log(x).mean(-1, keepdim=True))
        ctx.save_for_backward(x, out)
        return out

    @staticmethod
    def backward(ctx, grad):
        x, out = ctx.saved_tensors
        return grad * out / (x.shape[-1] * x)


@specimen(lambda draw: (rand(draw, 4, 3 + larger(draw)), rand(draw, 4, 3 + larger(draw), seed=1)))
class Dot(Function):
    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return (a * b).sum(-1)

    @staticmethod
    def backward(ctx, grad):
        a, b = ctx.saved_tensors
        return grad.unsqueeze(-1) * b, grad.unsqueeze(-1) * a


@specimen(lambda draw: (rand(draw, 4, 3 + larger(draw)), rand(draw, 4, 3 + larger(draw), seed=1)))
class CosineSimilarity(Function):
    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1))

    @staticmethod
    def backward(ctx, grad):
        a, b = ctx.saved_tensors
        length_a, length_b = a.norm(dim=-1, keepdim=True), b.norm(dim=-1, keepdim=True)
        unit_a, unit_b = a / length_a, b / length_b
        cosine = (unit_a * unit_b).sum(-1, keepdim=True)
        grad = grad.unsqueeze(-1)
        return grad * (unit_b - cosine * unit_a) / length_a, grad * (unit_a - cosine * unit_b) / length_b
