"""Writes into what belongs to others, reads that rest on memory order, gradients that depend on who asks."""

from __future__ import annotations

import torch
from registry import SaveInput, clean, fault, rand
from torch.autograd import Function


def one():
    return (rand(3, 4),)


def two():
    return rand(3, 4), rand(3, 4, seed=1)


class Sine(SaveInput):
    @staticmethod
    def forward(x):
        return x.sin()


@fault("input-mutated", inputs=one, argument="x", also=("double-backward-wrong", "stale-save"))
class ForwardWritesItsInput(Function):
    """x.data is a way around every check of autograd's."""

    @staticmethod
    def forward(ctx, x):
        out = x.sin()
        ctx.save_for_backward(x.cos())
        x.data.mul_(0.5)
        return out

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.saved_tensors[0]


@fault("input-mutated", inputs=one, argument="x", also=("not-repeatable", "double-backward-wrong", "layout-dependent"))
class BackwardWritesItsInput(Sine):
    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return x.detach().cos_() * grad


@fault("upstream-mutated", inputs=one, also=("layout-dependent", "double-backward-wrong"))
class MasksTheUpstreamInPlace(SaveInput):
    @staticmethod
    def forward(x):
        return x.relu()

    @staticmethod
    def backward(ctx, grad):
        grad.data[ctx.saved_tensors[0] <= 0] = 0
        return grad.clone()


@fault("upstream-mutated", inputs=one, also=("layout-dependent", "double-backward-wrong"))
class ReusesTheUpstreamsMemory(Sine):
    @staticmethod
    def backward(ctx, grad):
        with torch.no_grad():
            return torch.mul(grad, ctx.saved_tensors[0].cos(), out=grad)


@fault("layout-dependent", inputs=one, argument="x", also=("vmap-wrong",))
class ForwardReadsInMemoryOrder(Function):
    """A kernel that takes a pointer: right for contiguous inputs."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        flat = torch.as_strided(x.detach(), (x.numel(),), (1,), x.storage_offset())
        return flat.sin().view(x.shape)

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.saved_tensors[0].cos()


@fault("layout-dependent", inputs=one, also=("double-backward-wrong",))
class GradientWrittenInMemoryOrder(Sine):
    """empty_like keeps the strides of a transposed input, and the loop knows nothing of them."""

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        out = torch.empty_like(x)
        flat = torch.as_strided(out, (out.numel(),), (1,))
        flat.copy_((grad * x.cos()).reshape(-1).detach())
        return out


@fault("layout-dependent", inputs=lambda: (rand(2, 3, 4), rand(4, seed=1)))
class UpstreamViewedAsRows(Function):
    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return x * w

    @staticmethod
    def backward(ctx, grad):
        x, w = ctx.saved_tensors
        rows = grad.view(-1, w.shape[0])
        return grad * w if ctx.needs_input_grad[0] else None, (
            (rows * x.reshape(rows.shape)).sum(0) if ctx.needs_input_grad[1] else None
        )


@fault("subset-wrong", inputs=two)
class SavedOnlyIfBothAreNeeded(Function):
    @staticmethod
    def forward(ctx, x, y):
        if all(ctx.needs_input_grad):
            ctx.save_for_backward(x, y)
        return x * y

    @staticmethod
    def backward(ctx, grad):
        x, y = ctx.saved_tensors
        return grad * y if ctx.needs_input_grad[0] else None, grad * x if ctx.needs_input_grad[1] else None


@fault("subset-wrong", inputs=two)
class NameBoundInTheOtherBranch(SaveInput):
    @staticmethod
    def forward(x, y):
        return (x * y).exp()

    @staticmethod
    def backward(ctx, grad):
        x, y = ctx.saved_tensors
        to_x = to_y = None
        if ctx.needs_input_grad[0]:
            inner = grad * (x * y).exp()
            to_x = inner * y
        if ctx.needs_input_grad[1]:
            to_y = inner * x
        return to_x, to_y


@fault("subset-wrong", inputs=two)
class FrozenFactorTakenForOne(Function):
    """Keeps a factor only if that one trains: with it frozen, the other one's gradient lacks it."""

    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x, y if ctx.needs_input_grad[1] else torch.ones_like(y))
        return x * y

    @staticmethod
    def backward(ctx, grad):
        x, y = ctx.saved_tensors
        return grad * y if ctx.needs_input_grad[0] else None, grad * x if ctx.needs_input_grad[1] else None


@fault("needless-gradient", inputs=lambda: (rand(3, 4), rand(4, 2, seed=1)))
class BothFactorsAlways(SaveInput):
    @staticmethod
    def forward(x, w):
        return x.mm(w)

    @staticmethod
    def backward(ctx, grad):
        x, w = ctx.saved_tensors
        return grad.mm(w.mT), x.mT.mm(grad)


@clean(inputs=one)
class WritesIntoItsOwnCopies(Sine):
    @staticmethod
    def backward(ctx, grad):
        out = grad.clone()
        out *= ctx.saved_tensors[0].cos()
        return out


@clean(inputs=two)
class DirtySecondArgument(Function):
    """The second argument is accumulated into, and says so."""

    @staticmethod
    def forward(ctx, x, total):
        ctx.mark_dirty(total)
        return total.add_(x, alpha=2.0)

    @staticmethod
    def backward(ctx, grad):
        return 2 * grad if ctx.needs_input_grad[0] else None, grad
