"""Losses: fused gradients that forget the upstream, the mean, a weight, a mask or a branch."""

from __future__ import annotations

import torch
from registry import SaveInput, clean, fault, positive, rand
from torch.autograd import Function


def classes():
    return rand(4, 3), torch.tensor([0, 2, 1, 1])


def pair():
    return rand(4, 3), rand(4, 3, seed=1)


@clean(inputs=pair)
class MeanSquaredError(SaveInput):
    @staticmethod
    def forward(x, target):
        return (x - target).square().mean()

    @staticmethod
    def backward(ctx, grad):
        x, target = ctx.saved_tensors
        to_x = 2 * grad * (x - target) / max(x.numel(), 1)
        need = ctx.needs_input_grad
        return to_x if need[0] else None, -to_x if need[1] else None


@fault("gradient-sign", inputs=pair, argument="target")
class MseTargetSign(MeanSquaredError):
    @staticmethod
    def backward(ctx, grad):
        to_x, to_target = MeanSquaredError.backward(ctx, grad)
        return to_x, None if to_target is None else -to_target


@fault("gradient-missing", inputs=pair, argument="target")
class MseTargetForgotten(MeanSquaredError):
    @staticmethod
    def backward(ctx, grad):
        return MeanSquaredError.backward(ctx, grad)[0], None


@fault("gradient-ignores-upstream", inputs=pair, argument="x", says="doubling")
class MseKeptFromForward(Function):
    """The gradient is computed with the loss and handed back, whatever arrives: right for loss.backward()."""

    @staticmethod
    def forward(ctx, x, target):
        ctx.save_for_backward(2 * (x - target) / max(x.numel(), 1))
        return (x - target).square().mean()

    @staticmethod
    def backward(ctx, grad):
        (kept,) = ctx.saved_tensors
        return kept if ctx.needs_input_grad[0] else None, -kept if ctx.needs_input_grad[1] else None


@fault("gradient-ignores-upstream", inputs=classes, argument="logits", says="first element")
class CrossEntropyOfFirstUpstream(Function):
    """One loss a row, its gradient multiplied with the first row's upstream."""

    @staticmethod
    def forward(ctx, logits, target):
        ctx.save_for_backward(logits, target)
        return -logits.log_softmax(-1).gather(-1, target[:, None])[:, 0]

    @staticmethod
    def backward(ctx, grad):
        logits, target = ctx.saved_tensors
        hot = torch.nn.functional.one_hot(target, logits.shape[-1])
        return grad[:1] * (logits.softmax(-1) - hot), None


@fault("gradient-wrong", inputs=lambda: (rand(5, 3), torch.tensor([0, 2, -100, 1, 1])), argument="logits", says="row 2")
class CrossEntropyOfIgnoredRow(Function):
    @staticmethod
    def forward(ctx, logits, target):
        ctx.save_for_backward(logits, target)
        return torch.nn.functional.cross_entropy(logits, target, reduction="sum")

    @staticmethod
    def backward(ctx, grad):
        logits, target = ctx.saved_tensors
        hot = torch.nn.functional.one_hot(target.clamp_min(0), logits.shape[-1])
        return grad * (logits.softmax(-1) - hot), None


@fault("gradient-wrong", inputs=classes, argument="logits")
class CrossEntropyForgetsOneHot(Function):
    @staticmethod
    def forward(ctx, logits, target):
        ctx.save_for_backward(logits)
        return torch.nn.functional.cross_entropy(logits, target, reduction="sum")

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.saved_tensors[0].softmax(-1), None


@clean(inputs=lambda: (rand(6), (rand(6, seed=1) > 0).float(), 3.0))
class BinaryCrossEntropy(Function):
    """With logits, and a weight of the positive class."""

    @staticmethod
    def forward(ctx, x, target, weight):
        ctx.save_for_backward(x, target)
        ctx.weight = weight
        softplus = torch.nn.functional.softplus
        return (weight * target * softplus(-x) + (1 - target) * softplus(x)).sum()

    @staticmethod
    def backward(ctx, grad):
        x, target = ctx.saved_tensors
        return grad * ((1 - target) * x.sigmoid() - ctx.weight * target * (-x).sigmoid()), None, None


@fault("gradient-wrong", inputs=lambda: (rand(6), (rand(6, seed=1) > 0).float(), 3.0), argument="x")
class BinaryCrossEntropyUnweighted(BinaryCrossEntropy):
    @staticmethod
    def backward(ctx, grad):
        x, target = ctx.saved_tensors
        return grad * (x.sigmoid() - target), None, None


@clean(inputs=lambda: (rand(8), rand(8, seed=1), 1.0))
class Huber(Function):
    @staticmethod
    def forward(ctx, x, target, delta):
        ctx.save_for_backward(x, target)
        ctx.delta = delta
        off = (x - target).abs()
        return torch.where(off < delta, off.square() / 2, delta * (off - delta / 2))

    @staticmethod
    def backward(ctx, grad):
        x, target = ctx.saved_tensors
        slope = grad * (x - target).clamp(-ctx.delta, ctx.delta)
        return slope if ctx.needs_input_grad[0] else None, -slope if ctx.needs_input_grad[1] else None, None


@fault("gradient-wrong", inputs=lambda: (rand(8), rand(8, seed=1), 1.0), argument="x")
class HuberNeverClips(Huber):
    @staticmethod
    def backward(ctx, grad):
        x, target = ctx.saved_tensors
        slope = grad * (x - target)
        return slope if ctx.needs_input_grad[0] else None, -slope if ctx.needs_input_grad[1] else None, None


@fault("gradient-sign", inputs=lambda: (rand(8), rand(8, seed=1).sign().detach()), argument="score")
class HingeUphill(SaveInput):
    @staticmethod
    def forward(score, label):
        return (1 - label * score).clamp(min=0).sum()

    @staticmethod
    def backward(ctx, grad):
        score, label = ctx.saved_tensors
        return grad * label * (label * score < 1), None


@fault("gradient-wrong", inputs=lambda: (rand(4), rand(4, seed=1)), argument="x")
class CosineWithoutProjection(SaveInput):
    """As if the norm were a constant."""

    @staticmethod
    def forward(x, y):
        return (x * y).sum() / (x.norm() * y.norm())

    @staticmethod
    def backward(ctx, grad):
        x, y = ctx.saved_tensors
        size = x.norm() * y.norm()
        return grad * y / size if ctx.needs_input_grad[0] else None, grad * x / size if ctx.needs_input_grad[
            1
        ] else None


@fault("gradient-wrong", inputs=lambda: (positive(6), positive(6, seed=1)), argument="p", says="term")
class KullbackLeiblerTermMissing(SaveInput):
    """d/dp of p log(p / q) is log(p / q) + 1."""

    @staticmethod
    def forward(p, q):
        return (p * (p / q).log()).sum()

    @staticmethod
    def backward(ctx, grad):
        p, q = ctx.saved_tensors
        return grad * (p / q).log() if ctx.needs_input_grad[0] else None, -grad * p / q if ctx.needs_input_grad[
            1
        ] else None


@fault("gradient-wrong", inputs=lambda: (positive(6), (rand(6, seed=1) > 0).float()), argument="p")
class DiceQuotientRule(SaveInput):
    """The derivative of the numerator alone."""

    @staticmethod
    def forward(p, target):
        return 1 - 2 * (p * target).sum() / (p.sum() + target.sum())

    @staticmethod
    def backward(ctx, grad):
        p, target = ctx.saved_tensors
        return -2 * grad * target / (p.sum() + target.sum()), None
