"""The softmax family and the norms of layers."""

import torch
from benchmarks.mutants.specimen import larger, rand, specimen
from torch.autograd import Function


def one(draw):
    return (rand(draw, 4, 5 + larger(draw)),)


@specimen(one)
class Softmax(Function):
    @staticmethod
    def forward(ctx, x):
        out = x.softmax(-1)
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx, grad_output):
        (out,) = ctx.saved_tensors
        return out * (grad_output - (grad_output * out).sum(-1, keepdim=True))


@specimen(one)
class LogSoftmax(Function):
    @staticmethod
    def forward(x):
        return x.log_softmax(-1)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx, grad_output):
        (out,) = ctx.saved_tensors
        return grad_output - torch.exp(out) * grad_output.sum(-1, keepdim=True)


@specimen(one)
class Entropy(Function):
    @staticmethod
    def forward(ctx, logits):
        ctx.save_for_backward(logits)
        return -(logits.softmax(-1) * logits.log_softmax(-1)).sum(-1)

    @staticmethod
    def backward(ctx, grad):
        (logits,) = ctx.saved_tensors
        p, log_p = logits.softmax(-1), logits.log_softmax(-1)
        mean = (p * log_p).sum(-1, keepdim=True)
        return -grad.unsqueeze(-1) * p * (log_p - mean)


@specimen(lambda draw: (*one(draw), rand(draw, 5 + larger(draw), seed=1), rand(draw, 5 + larger(draw), seed=2)))
class LayerNorm(Function):
    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        centred = x - x.mean(-1, keepdim=True)
        return centred * torch.rsqrt(centred.square().mean(-1, keepdim=True) + 1e-5) * weight + bias

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        centred = x - x.mean(-1, keepdim=True)
        rstd = torch.rsqrt(centred.square().mean(-1, keepdim=True) + 1e-5)
        normal = centred * rstd
        scaled = grad * weight
        inner = (scaled * normal).mean(-1, keepdim=True)
        grad_x = rstd * (scaled - scaled.mean(-1, keepdim=True) - normal * inner)
        return grad_x, (grad * normal).sum_to_size(weight.shape), grad.sum_to_size(weight.shape)


@specimen(lambda draw: (*one(draw), rand(draw, 5 + larger(draw), seed=1)))
class RmsNorm(Function):
    @staticmethod
    def forward(x, weight):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * weight

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, weight = inputs
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        rstd = torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)
        normal = x * rstd
        scaled = grad * weight
        grad_x = rstd * (scaled - normal * (scaled * normal).mean(-1, keepdim=True))
        return grad_x, (grad * normal).sum_to_size(weight.shape)


@specimen(lambda draw: (rand(draw, 6, 3 + larger(draw)),))
class Standardise(Function):
    """The columns with mean 0 and variance 1, as a batch norm does it."""

    @staticmethod
    def forward(ctx, x):
        std = x.std(0, correction=0, keepdim=True)
        out = (x - x.mean(0, keepdim=True)) / std
        ctx.save_for_backward(x)
        return out

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        std = x.std(0, correction=0, keepdim=True)
        out = (x - x.mean(0, keepdim=True)) / std
        return (grad - grad.mean(0, keepdim=True) - out * (grad * out).mean(0, keepdim=True)) / std
