"""Several outputs, containers, marks, state, and what is kept on ctx."""

from __future__ import annotations

import torch
from registry import clean, fault, rand
from torch.autograd import Function


def one():
    return (rand(3, 4),)


@clean(inputs=one)
class SinCos(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin(), x.cos()

    @staticmethod
    def backward(ctx, grad_sin, grad_cos):
        (x,) = ctx.saved_tensors
        return grad_sin * x.cos() - grad_cos * x.sin()


@fault("gradient-ignores-upstream", "gradient-wrong", inputs=one, argument="x")
class SinCosForgetsOne(SinCos):
    @staticmethod
    def backward(ctx, grad_sin, grad_cos):
        (x,) = ctx.saved_tensors
        return grad_sin * x.cos()


@fault("undefined-upstream", inputs=one)
class SinCosNotMaterialized(SinCos):
    @staticmethod
    def forward(ctx, x):
        ctx.set_materialize_grads(False)
        return SinCos.forward(ctx, x)


@clean(inputs=one)
class SinCosHandlesNone(SinCosNotMaterialized):
    @staticmethod
    def backward(ctx, grad_sin, grad_cos):
        (x,) = ctx.saved_tensors
        total = torch.zeros_like(x)
        if grad_sin is not None:
            total = total + grad_sin * x.cos()
        if grad_cos is not None:
            total = total - grad_cos * x.sin()
        return total


@fault("output-not-differentiable", inputs=one)
class SinCosMarked(SinCos):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        sin, cos = x.sin(), x.cos()
        ctx.mark_non_differentiable(cos)
        return sin, cos


@fault("output-untracked", inputs=one)
class ReturnsList(SinCos):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return [x.sin(), x.cos()]


@fault("output-untracked", inputs=one)
class ReturnsDict(SinCos):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return {"sin": x.sin(), "cos": x.cos()}


@fault("input-untracked", inputs=lambda: ([rand(3), rand(3, seed=1)],), argument="tensors")
class SumOfList(Function):
    @staticmethod
    def forward(ctx, tensors):
        return sum(tensors)

    @staticmethod
    def backward(ctx, grad):
        return grad


@clean(inputs=lambda: (rand(3), rand(3, seed=1)))
class SumOfMany(Function):
    @staticmethod
    def forward(ctx, *tensors):
        return sum(tensors)

    @staticmethod
    def backward(ctx, grad):
        return grad, grad


class SquareBase(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, grad):
        return 2 * grad * ctx.saved_tensors[0]


@fault("leak", inputs=one, also=("double-backward-wrong", "stale-save"))
class KeepsOutput(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.out = x.exp()
        return ctx.out

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.out


@fault("stale-save", inputs=one, argument="x")
class KeepsInput(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.x = x
        return x * x

    @staticmethod
    def backward(ctx, grad):
        return 2 * grad * ctx.x


@fault("unhooked-save", inputs=lambda: (rand(6, 5),))
class KeepsMask(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.mask = x > 0
        return x * ctx.mask

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.mask


@fault("shared-state", inputs=one, also=("double-backward-wrong", "leak", "layout-dependent", "stale-save"))
class StateOnClass(Function):
    @staticmethod
    def forward(ctx, x):
        StateOnClass.x = x.detach().clone()
        return x * x

    @staticmethod
    def backward(ctx, grad):
        return 2 * grad * StateOnClass.x


@fault("not-repeatable", inputs=one)
class PopsItsState(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        ctx.todo = [2.0]
        return x * x

    @staticmethod
    def backward(ctx, grad):
        return ctx.todo.pop() * grad * ctx.saved_tensors[0]


@fault("crash", inputs=one)
class BackwardRaises(SquareBase):
    @staticmethod
    def backward(ctx, grad):
        raise KeyError("no such thing")


@fault("crash", inputs=one)
class BackwardExits(SquareBase):
    @staticmethod
    def backward(ctx, grad):
        raise SystemExit(3)


@fault("crash", inputs=one)
class ForwardRaises(SquareBase):
    @staticmethod
    def forward(ctx, x):
        raise ValueError("no")


@clean(inputs=one)
class ReturnsNoneBeside(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x, None, 3

    @staticmethod
    def backward(ctx, grad, *rest):
        return 2 * grad * ctx.saved_tensors[0]


@clean(inputs=lambda: (rand(4, 3), torch.tensor([0, 2, 1, 1])))
class PickClass(Function):
    """A loss over integer targets."""

    @staticmethod
    def forward(ctx, logits, targets):
        ctx.save_for_backward(logits, targets)
        return -logits.log_softmax(-1).gather(-1, targets.unsqueeze(-1)).mean()

    @staticmethod
    def backward(ctx, grad):
        logits, targets = ctx.saved_tensors
        hot = torch.nn.functional.one_hot(targets, logits.shape[-1])
        return grad * (logits.softmax(-1) - hot) / max(logits.shape[0], 1), None


@fault(
    "gradient-scale", inputs=lambda: (rand(4, 3), torch.tensor([0, 2, 1, 1])), argument="logits", says="batch size 4"
)
class PickClassNotAveraged(PickClass):
    @staticmethod
    def backward(ctx, grad):
        logits, targets = ctx.saved_tensors
        hot = torch.nn.functional.one_hot(targets, logits.shape[-1])
        return grad * (logits.softmax(-1) - hot), None


@fault("double-backward-wrong", inputs=lambda: (rand(4, 3), torch.tensor([0, 2, 1, 1])), argument="logits")
class PickClassSavesSoftmax(PickClass):
    @staticmethod
    def forward(ctx, logits, targets):
        ctx.save_for_backward(logits.softmax(-1), targets)
        return -logits.log_softmax(-1).gather(-1, targets.unsqueeze(-1)).mean()

    @staticmethod
    def backward(ctx, grad):
        soft, targets = ctx.saved_tensors
        hot = torch.nn.functional.one_hot(targets, soft.shape[-1])
        return grad * (soft - hot) / max(soft.shape[0], 1), None
