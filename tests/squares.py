"""A right and a wrong Function for the tests of what reports on them, as classes and as the text of a program."""

from __future__ import annotations

import inspect

import torch


class Right(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return 2 * grad * x


class Wrong(torch.autograd.Function):
    """Its gradient has the wrong sign."""

    forward = Right.forward

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return -2 * grad * x


def program(*names: str) -> str:
    """The source of a module with the Functions that are named `Right` or `Wrong`."""
    text = {"Right": inspect.getsource(Right)}
    text["Wrong"] = text["Right"].replace("class Right", "class Wrong").replace("return 2 *", "return -2 *")
    return "\n\n".join(["import torch\n", *[text[name] for name in names]])
