"""Functions that return more than one tensor."""

import torch
from benchmarks.mutants.specimen import larger, positive, rand, specimen
from torch.autograd import Function


@specimen(lambda draw: (rand(draw, 3, 4 + larger(draw)),))
class SineCosine(Function):
    @staticmethod
    def forward(ctx, x):
        sine, cosine = torch.sin(x), torch.cos(x)
        ctx.save_for_backward(x)
        return sine, cosine

    @staticmethod
    def backward(ctx, grad_sine, grad_cosine):
        (x,) = ctx.saved_tensors
        return grad_sine * torch.cos(x) - grad_cosine * torch.sin(x)


@specimen(lambda draw: (rand(draw, 4, 5 + larger(draw)),))
class MeanAndVariance(Function):
    @staticmethod
    def forward(x):
        return x.mean(-1), x.var(-1, correction=0)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, grad_mean, grad_variance):
        (x,) = ctx.saved_tensors
        centred = x - x.mean(-1, keepdim=True)
        return (grad_mean.unsqueeze(-1) + 2 * grad_variance.unsqueeze(-1) * centred) / x.shape[-1]


@specimen(lambda draw: (positive(draw, 3, 4 + larger(draw)), rand(draw, 3, 4 + larger(draw))))
class PolarToCartesian(Function):
    @staticmethod
    def forward(ctx, radius, angle):
        ctx.save_for_backward(radius, angle)
        return radius * torch.cos(angle), radius * torch.sin(angle)

    @staticmethod
    def backward(ctx, grad_x, grad_y):
        radius, angle = ctx.saved_tensors
        sine, cosine = torch.sin(angle), torch.cos(angle)
        return grad_x * cosine + grad_y * sine, radius * (grad_y * cosine - grad_x * sine)


@specimen(lambda draw: (rand(draw, 3, 4 + larger(draw)), rand(draw, 3, 4 + larger(draw), seed=1)))
class LargerAndWhich(Function):
    """The larger of two, and whether it is the first: the second output has no gradient."""

    @staticmethod
    def forward(ctx, x, y):
        first = x > y
        ctx.save_for_backward(first)
        ctx.mark_non_differentiable(first)
        return torch.where(first, x, y), first

    @staticmethod
    def backward(ctx, grad, _):
        (first,) = ctx.saved_tensors
        return torch.where(first, grad, 0), torch.where(first, 0, grad)


@specimen(lambda draw: (rand(draw, 3, 4), rand(draw, 4, 4, seed=1), rand(draw, 4, 4, seed=2)))
class TwoProjections(Function):
    @staticmethod
    def forward(ctx, x, key, value):
        ctx.save_for_backward(x, key, value)
        return x @ key, x @ value

    @staticmethod
    def backward(ctx, grad_key, grad_value):
        x, key, value = ctx.saved_tensors
        for_key = (x.mT @ grad_key).sum_to_size(key.shape)
        for_value = (x.mT @ grad_value).sum_to_size(value.shape)
        return grad_key @ key.mT + grad_value @ value.mT, for_key, for_value
