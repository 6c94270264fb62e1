"""Attention and its parts: the scale, the mask, heads in groups, rotations; products of matrices in batches."""

from __future__ import annotations

import torch
from registry import SaveInput, clean, fault, rand
from torch.autograd import Function


def qkv():
    return rand(3, 4), rand(3, 4, seed=1), rand(3, 4, seed=2)


@clean(inputs=qkv)
class Attention(Function):
    @staticmethod
    def forward(ctx, q, k, v):
        if not q.dim() == k.dim() == v.dim() == 2:
            raise ValueError("one sequence at a time")
        ctx.save_for_backward(q, k, v)
        return Attention.weights(q, k) @ v

    @staticmethod
    def weights(q, k):
        return (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)

    @staticmethod
    def backward(ctx, grad):
        q, k, v = ctx.saved_tensors
        p = Attention.weights(q, k)
        to_p = grad @ v.mT
        to_s = p * (to_p - (to_p * p).sum(-1, keepdim=True)) / q.shape[-1] ** 0.5
        need = ctx.needs_input_grad
        return to_s @ k if need[0] else None, to_s.mT @ q if need[1] else None, p.mT @ grad if need[2] else None


@fault("gradient-scale", inputs=qkv, argument="k", says="2x")
class AttentionScaleForgotten(Attention):
    @staticmethod
    def backward(ctx, grad):
        q, k, v = Attention.backward(ctx, grad)
        return q, None if k is None else k * ctx.saved_tensors[0].shape[-1] ** 0.5, v


@fault("gradient-wrong", inputs=qkv, argument="v")
class AttentionWeightsNotTransposed(Attention):
    @staticmethod
    def backward(ctx, grad):
        q, k, v = Attention.backward(ctx, grad)
        return q, k, None if v is None else Attention.weights(*ctx.saved_tensors[:2]) @ grad


@fault("gradient-swapped", inputs=qkv, argument="q", also=("subset-wrong",))
class AttentionSlots(Attention):
    @staticmethod
    def backward(ctx, grad):
        q, k, v = Attention.backward(ctx, grad)
        return k, q, v


@fault("gradient-wrong", inputs=qkv, argument="q")
class AttentionSoftmaxAsExponential(Attention):
    @staticmethod
    def backward(ctx, grad):
        q, k, v = ctx.saved_tensors
        p = Attention.weights(q, k)
        to_s = p * (grad @ v.mT) / q.shape[-1] ** 0.5
        need = ctx.needs_input_grad
        return to_s @ k if need[0] else None, to_s.mT @ q if need[1] else None, p.mT @ grad if need[2] else None


@fault("gradient-wrong", inputs=lambda: (rand(4, 4),), argument="scores")
class CausalMaskInForwardOnly(SaveInput):
    @staticmethod
    def forward(scores):
        return (scores + torch.full_like(scores, -1e9).triu(1)).softmax(-1)

    @staticmethod
    def backward(ctx, grad):
        p = ctx.saved_tensors[0].softmax(-1)
        return p * (grad - (grad * p).sum(-1, keepdim=True))


@clean(inputs=lambda: (rand(4, 2, 3), rand(2, 2, 3, seed=1)))
class GroupedScores(SaveInput):
    """Four heads of queries over two of keys."""

    @staticmethod
    def forward(q, k):
        return q @ k.repeat_interleave(q.shape[0] // k.shape[0], 0).mT

    @staticmethod
    def backward(ctx, grad):
        q, k = ctx.saved_tensors
        groups = q.shape[0] // k.shape[0]
        to_q = grad @ k.repeat_interleave(groups, 0) if ctx.needs_input_grad[0] else None
        to_k = (grad.mT @ q).unflatten(0, (k.shape[0], groups)).sum(1) if ctx.needs_input_grad[1] else None
        return to_q, to_k


@fault(
    "gradient-wrong", "gradient-ignores-upstream", inputs=lambda: (rand(4, 2, 3), rand(2, 2, 3, seed=1)), argument="k"
)
class GroupedScoresOneHeadOfEach(GroupedScores):
    @staticmethod
    def backward(ctx, grad):
        q, k = ctx.saved_tensors
        groups = q.shape[0] // k.shape[0]
        to_q, _ = GroupedScores.backward(ctx, grad)
        return to_q, (grad.mT @ q)[::groups] if ctx.needs_input_grad[1] else None


@fault("gradient-wrong", inputs=lambda: (rand(3, 4), rand(3, 2, seed=1).detach()), argument="x")
class RotationForwardAgain(SaveInput):
    """Turned on where it should be turned back."""

    @staticmethod
    def forward(x, angle):
        a, b = x.chunk(2, -1)
        return torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], -1)

    @staticmethod
    def backward(ctx, grad):
        return RotationForwardAgain.forward(grad, ctx.saved_tensors[1]), None


@fault("gradient-shape", inputs=lambda: (rand(2, 3, 4), rand(5, 4, seed=1)), argument="weight")
class BatchedLinearNotSummed(SaveInput):
    """One gradient of the weight a sample."""

    @staticmethod
    def forward(x, weight):
        return torch.einsum("bij,oj->bio", x, weight)

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        return grad @ weight if ctx.needs_input_grad[0] else None, grad.mT @ x if ctx.needs_input_grad[1] else None


@fault("gradient-scale", inputs=lambda: (rand(2, 3, 4), rand(5, 4, seed=1)), argument="weight", says="batch size 2")
class BatchedLinearAveraged(BatchedLinearNotSummed):
    @staticmethod
    def backward(ctx, grad):
        to_x, to_weight = BatchedLinearNotSummed.backward(ctx, grad)
        return to_x, None if to_weight is None else to_weight.mean(0)
