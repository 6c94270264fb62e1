"""Backwards whose own derivative is lost or wrong, by every way of losing it; and those that refuse it aloud."""

from __future__ import annotations

import torch
from registry import SaveInput, clean, fault, positive, rand
from torch.autograd import Function


def one():
    return (rand(3, 4),)


def two():
    return rand(3, 4), rand(3, 4, seed=1)


class Sine(SaveInput):
    @staticmethod
    def forward(x):
        return x.sin()


@fault("double-backward-wrong", inputs=one, argument="x")
class DetachesInBackward(Sine):
    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.saved_tensors[0].detach().cos()


@fault("double-backward-wrong", inputs=one, argument="x")
class DataInBackward(Sine):
    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.saved_tensors[0].data.cos()


@fault("double-backward-wrong", inputs=one)
class NoGradInBackward(Sine):
    @staticmethod
    @torch.no_grad()
    def backward(ctx, grad):
        return grad * ctx.saved_tensors[0].cos()


@fault("double-backward-wrong", inputs=one)
class UpstreamDetached(Sine):
    """The gradient penalty's own path."""

    @staticmethod
    def backward(ctx, grad):
        return grad.detach() * ctx.saved_tensors[0].cos()


@fault("double-backward-wrong", inputs=one)
class GraphWithinBackward(Sine):
    """Runs the forward again on a detached copy and differentiates that, once."""

    @staticmethod
    def backward(ctx, grad):
        with torch.enable_grad():
            x = ctx.saved_tensors[0].detach().requires_grad_()
            out = x.sin()
        return torch.autograd.grad(out, x, grad)[0]


@fault("double-backward-wrong", inputs=one, argument="x")
class NumberOutOfATensor(SaveInput):
    """item() is where the graph ends."""

    @staticmethod
    def forward(x):
        return x.sin() * x.square().sum()

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        total = x.square().sum().item()
        return grad * x.cos() * total + 2 * x * (grad * x.sin()).sum()


class WrongCosine(Function):
    """The backward of a backward, with the wrong sign."""

    @staticmethod
    def forward(ctx, grad, x):
        ctx.save_for_backward(grad, x)
        return grad * x.cos()

    @staticmethod
    def backward(ctx, upstream):
        grad, x = ctx.saved_tensors
        return upstream * x.cos(), upstream * grad * x.sin()


@fault("double-backward-wrong", inputs=one, argument="x")
class SecondFunctionWrong(Sine):
    @staticmethod
    def backward(ctx, grad):
        return WrongCosine.apply(grad, ctx.saved_tensors[0])


@fault("double-backward-wrong", inputs=two)
class OneFactorKept(Function):
    """What was computed for y in the forward is used for it in the backward."""

    @staticmethod
    def forward(ctx, x, y):
        e = x.exp()
        ctx.save_for_backward(x, y, e)
        return e * y

    @staticmethod
    def backward(ctx, grad):
        x, y, e = ctx.saved_tensors
        return grad * x.exp() * y if ctx.needs_input_grad[0] else None, grad * e if ctx.needs_input_grad[1] else None


@fault("double-backward-wrong", inputs=lambda: (positive(6),))
class RootSolvedInNumpy(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sqrt()

    @staticmethod
    def backward(ctx, grad):
        x = ctx.saved_tensors[0].detach().numpy()
        return torch.from_numpy(0.5 * grad.detach().numpy() / x**0.5)


@fault("leaky-guard", inputs=one)
class SineOnce(Sine):
    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        return grad * ctx.saved_tensors[0].cos()


@fault("leaky-guard", inputs=two)
class ProductOnce(SaveInput):
    @staticmethod
    def forward(x, y):
        return x * y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        x, y = ctx.saved_tensors
        return grad * y if ctx.needs_input_grad[0] else None, grad * x if ctx.needs_input_grad[1] else None


class Refuses(Function):
    @staticmethod
    def forward(ctx, grad, x):
        return grad * x.cos()

    @staticmethod
    def backward(ctx, upstream):
        raise NotImplementedError("this sine is differentiable once")


@clean("no-double-backward", inputs=one)
class SineRefusesTwice(Sine):
    @staticmethod
    def backward(ctx, grad):
        return Refuses.apply(grad, ctx.saved_tensors[0])


@clean(inputs=lambda: (positive(3, 4),))
class ReturnsWhatItKeeps(Function):
    """An intermediate that is an output, too, has its graph, and its own term."""

    @staticmethod
    def forward(ctx, x):
        root = x.sqrt()
        ctx.save_for_backward(root)
        return root, root**3

    @staticmethod
    def backward(ctx, grad_root, grad_cube):
        (root,) = ctx.saved_tensors
        return (grad_root + 3 * grad_cube * root**2) / (2 * root)


@clean(inputs=one)
class GraphWithinBackwardKept(Sine):
    """Runs the forward again, on what is saved, and keeps the graph of its derivative."""

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        with torch.enable_grad():
            again = x if x.requires_grad else x.detach().requires_grad_()
            out = again.sin()
            return torch.autograd.grad(out, again, grad, create_graph=torch.is_grad_enabled())[0]
