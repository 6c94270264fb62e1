"""Losses: one number, or one a row."""

import torch
from benchmarks.mutants.specimen import indices, larger, rand, specimen
from torch.autograd import Function
from torch.nn import functional


@specimen(lambda draw: (rand(draw, 4, 3 + larger(draw)), rand(draw, 4, 3 + larger(draw), seed=1)))
class MeanSquaredError(Function):
    @staticmethod
    def forward(ctx, prediction, target):
        ctx.save_for_backward(prediction, target)
        return (prediction - target).square().mean()

    @staticmethod
    def backward(ctx, grad_output):
        prediction, target = ctx.saved_tensors
        difference = prediction - target
        step = grad_output * 2 * difference / difference.numel()
        return step.sum_to_size(prediction.shape), -step.sum_to_size(target.shape)


@specimen(lambda draw: (rand(draw, 4 + larger(draw), 5), indices(draw, 5, 4 + larger(draw))))
class CrossEntropy(Function):
    @staticmethod
    def forward(ctx, logits, target):
        ctx.save_for_backward(logits, target)
        return functional.cross_entropy(logits, target)

    @staticmethod
    def backward(ctx, grad_output):
        logits, target = ctx.saved_tensors
        probabilities = logits.softmax(-1)
        wanted = functional.one_hot(target, logits.shape[-1])
        return grad_output * (probabilities - wanted) / len(target), None


@specimen(lambda draw: (rand(draw, 4, 3 + larger(draw)), rand(draw, 4, 3 + larger(draw), seed=1).detach().sigmoid()))
class BinaryCrossEntropy(Function):
    @staticmethod
    def forward(logits, target):
        return (functional.softplus(logits) - target * logits).mean()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, grad):
        logits, target = ctx.saved_tensors
        step = grad * (torch.sigmoid(logits) - target) / torch.broadcast_tensors(logits, target)[0].numel()
        return step.sum_to_size(logits.shape), None


@specimen(lambda draw: (rand(draw, 4, 5 + larger(draw)), rand(draw, 4, 5 + larger(draw), seed=1)))
class KullbackLeibler(Function):
    """Between the softmax of a teacher, taken as given, and that of a student; one number a row."""

    @staticmethod
    def forward(ctx, student, teacher):
        ctx.save_for_backward(student, teacher)
        p = teacher.softmax(-1)
        return (p * (teacher.log_softmax(-1) - student.log_softmax(-1))).sum(-1)

    @staticmethod
    def backward(ctx, grad):
        student, teacher = ctx.saved_tensors
        p, q = teacher.softmax(-1), student.softmax(-1)
        surplus = teacher.log_softmax(-1) - student.log_softmax(-1)
        mean = (p * surplus).sum(-1, keepdim=True)
        return grad.unsqueeze(-1) * (q - p), grad.unsqueeze(-1) * p * (surplus - mean)


@specimen(lambda draw: (rand(draw, 4, 3 + larger(draw)), rand(draw, 4, 3 + larger(draw), seed=1)))
class Huber(Function):
    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x, y)
        off = (x - y).abs()
        return torch.where(off < 1, 0.5 * off**2, off - 0.5)

    @staticmethod
    def backward(ctx, grad):
        x, y = ctx.saved_tensors
        step = grad * (x - y).clamp(-1, 1)
        return step, -step


@specimen(lambda draw: (rand(draw, 5 + larger(draw), 3), rand(draw, 5 + larger(draw), 3, seed=1), 0.7))
class Contrastive(Function):
    """The negative log of a kernel exp(-|x - y|^2 / (2 t)) summed over pairs, one number."""

    @staticmethod
    def forward(ctx, x, y, t):
        ctx.save_for_backward(x, y)
        ctx.t = t
        return (-(x - y).square().sum(-1) / (2 * t)).exp().sum().log()

    @staticmethod
    def backward(ctx, grad):
        x, y = ctx.saved_tensors
        weight = (-(x - y).square().sum(-1, keepdim=True) / (2 * ctx.t)).exp()
        pull = grad * weight / weight.sum() * (y - x) / ctx.t
        return pull, -pull, None
