"""Functions of images, whose memory may be laid out pixel by pixel."""

from __future__ import annotations

import torch
from registry import clean, fault, rand
from torch.autograd import Function


def images():
    return rand(2, 3, 4, 5), rand(3, seed=1)


@clean(inputs=images)
class ChannelBias(Function):
    @staticmethod
    def forward(ctx, x, bias):
        if x.dim() != 4:
            raise ValueError("images are N x C x H x W")
        return x + bias[:, None, None]

    @staticmethod
    def backward(ctx, g):
        needs = ctx.needs_input_grad
        return g if needs[0] else None, g.sum((0, 2, 3)) if needs[1] else None


@fault("layout-dependent", inputs=images, says="channels-last")
class ChannelBiasFastPath(ChannelBias):
    """Takes a way of its own for channels-last gradients, and reads rows where there are pixels."""

    @staticmethod
    def backward(ctx, g):
        needs = ctx.needs_input_grad
        if g.is_contiguous(memory_format=torch.channels_last) and not g.is_contiguous():
            n, c, h, w = g.shape
            bias = torch.as_strided(g, (c, n * h * w), (n * h * w, 1)).sum(1)
        else:
            bias = g.sum((0, 2, 3))
        return g if needs[0] else None, bias if needs[1] else None


@fault("layout-dependent", inputs=lambda: (rand(2, 3, 4, 4),), says="channels-last")
class SquareInPlaceOrder(Function):
    """Pairs the upstream with the saved input by their order in memory where the input is channels-last."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        if x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous():
            flat = x.permute(0, 2, 3, 1).reshape(-1)
            return (2 * g.reshape(-1) * flat).reshape(x.shape)
        return 2 * g * x
