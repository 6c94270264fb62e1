"""What is kept between forward and backward: on ctx, in globals, detached, as arrays, too much of it."""

from __future__ import annotations

import torch
from registry import SaveInput, clean, fault, rand
from torch.autograd import Function

CACHE: dict[str, torch.Tensor] = {}
STACK: list[torch.Tensor] = []
KEPT: list[torch.Tensor] = []


def one():
    return (rand(3, 4),)


def two():
    return rand(3, 4), rand(4, 2, seed=1)


def product(ctx, grad, x, w):
    return grad @ w.mT if ctx.needs_input_grad[0] else None, x.mT @ grad if ctx.needs_input_grad[1] else None


@fault("shared-state", inputs=one, also=("double-backward-wrong", "stale-save", "layout-dependent", "leak"))
class CachedByShape(Function):
    """A module's dictionary; the second call of one shape overwrites the first one's entry."""

    @staticmethod
    def forward(ctx, x):
        CACHE[str(tuple(x.shape))] = x.detach().clone()
        ctx.key = str(tuple(x.shape))
        return x.sin()

    @staticmethod
    def backward(ctx, grad):
        return grad * CACHE[ctx.key].cos()


@fault("shared-state", "not-repeatable", inputs=one, also=("double-backward-wrong", "layout-dependent"))
class PushAndPop(Function):
    """Last in, first out: right only where the backwards come in the other order of the forwards."""

    @staticmethod
    def forward(ctx, x):
        STACK.append(x.detach().clone())
        return x.sin()

    @staticmethod
    def backward(ctx, grad):
        return grad * STACK.pop().cos()


@fault("not-repeatable", inputs=one)
class FreesEarly(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        ctx.scale = 3.0
        return 3 * x.sin()

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        scale = ctx.scale
        del ctx.scale
        return scale * grad * x.cos()


@fault("not-repeatable", inputs=one, also=("double-backward-wrong",))
class WritesIntoWhatItSaved(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x.cos())
        return x.sin()

    @staticmethod
    def backward(ctx, grad):
        (slope,) = ctx.saved_tensors
        return slope.detach().mul_(grad).clone()


@fault("leak", inputs=one)
class LogsItsOutputs(SaveInput):
    """Kept for a plot, for ever."""

    @staticmethod
    def forward(x):
        out = x.sin()
        KEPT.append(out)
        del KEPT[:-50]
        return out

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.saved_tensors[0].cos()


@fault("leak", inputs=one)
class KeepsItsOutputsInAList(SaveInput):
    @staticmethod
    def forward(x):
        return x.sin()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)
        ctx.results = [output]

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.saved_tensors[0].cos()


@fault("stale-save", inputs=two, argument="w")
class KeepsOneArgument(Function):
    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x)
        ctx.w = w
        return x.mm(w)

    @staticmethod
    def backward(ctx, grad):
        return product(ctx, grad, *ctx.saved_tensors, ctx.w)


@fault("stale-save", inputs=two, argument="x")
class KeepsATuple(Function):
    @staticmethod
    def forward(ctx, x, w):
        ctx.saved = (x, w)
        return x.mm(w)

    @staticmethod
    def backward(ctx, grad):
        return product(ctx, grad, *ctx.saved)


@fault("stale-save", inputs=lambda: (rand(6),), argument="x", also=("double-backward-wrong",))
class KeepsAnArray(Function):
    """Shares its memory with the input."""

    @staticmethod
    def forward(ctx, x):
        ctx.array = x.detach().numpy()
        return x.sin()

    @staticmethod
    def backward(ctx, grad):
        return grad * torch.from_numpy(ctx.array).cos()


@fault("unhooked-save", inputs=two)
class KeepsAnIntermediate(Function):
    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        ctx.mask = x.mm(w) > 0
        return x.mm(w) * ctx.mask

    @staticmethod
    def backward(ctx, grad):
        return product(ctx, grad * ctx.mask, *ctx.saved_tensors)


@fault("double-backward-wrong", inputs=two, argument="x", also=("stale-save",))
class SavesDetached(Function):
    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x.detach(), w.detach())
        return x.mm(w)

    @staticmethod
    def backward(ctx, grad):
        return product(ctx, grad, *ctx.saved_tensors)


@fault("needless-save", inputs=lambda: (rand(3, 4), rand(3, 4, seed=1)))
class SavesForAnAddition(SaveInput):
    """A sum needs nothing."""

    @staticmethod
    def forward(x, y):
        return x + 2 * y

    @staticmethod
    def backward(ctx, grad):
        return grad, 2 * grad if ctx.needs_input_grad[1] else None


@fault("needless-save", inputs=one)
class SavesAnUnusedMask(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x, x > 0)
        return x.relu()

    @staticmethod
    def backward(ctx, grad):
        return grad * (ctx.saved_tensors[0] > 0)


@clean(inputs=one)
class CachesAConstant(SaveInput):
    """A table computed once and never changed is no shared state."""

    @staticmethod
    def forward(x):
        CACHE.setdefault("three", torch.tensor(3.0, dtype=torch.float64))
        return CACHE["three"].to(x.dtype) * x.sin()

    @staticmethod
    def backward(ctx, grad):
        return CACHE["three"].to(grad.dtype) * grad * ctx.saved_tensors[0].cos()


@clean(inputs=two)
class SavesWhatItNeeds(Function):
    """Each factor only where the other one's gradient is asked for."""

    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, w if ctx.needs_input_grad[0] else None)
        return x.mm(w)

    @staticmethod
    def backward(ctx, grad):
        x, w = ctx.saved_tensors
        return grad.mm(w.mT) if w is not None else None, x.mT.mm(grad) if x is not None else None
