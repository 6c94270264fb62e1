"""Linear maps: matrix products and bias, the tutorials' first Function."""

from __future__ import annotations

import torch
from registry import clean, fault, rand
from torch.autograd import Function


def layer():
    return rand(4, 3), rand(5, 3, seed=1), rand(5, seed=2)


def square():
    return rand(4, 4), rand(4, 4, seed=1), rand(4, seed=2)


class Base(Function):
    @staticmethod
    def forward(ctx, input, weight, bias=None):
        ctx.save_for_backward(input, weight)
        ctx.has_bias = bias is not None
        out = input @ weight.mT
        return out if bias is None else out + bias


@clean(inputs=layer)
class Linear(Base):
    @staticmethod
    def backward(ctx, grad):
        input, weight = ctx.saved_tensors
        need = ctx.needs_input_grad
        rows = grad.reshape(-1, grad.shape[-1])
        return (
            grad @ weight if need[0] else None,
            rows.mT @ input.reshape(-1, input.shape[-1]) if need[1] else None,
            rows.sum(0) if ctx.has_bias and need[2] else None,
        )


@fault("edge-shape", inputs=layer, argument="bias")
class SqueezedBias(Base):
    @staticmethod
    def backward(ctx, grad):
        grads = Linear.backward(ctx, grad)
        return grads[0], grads[1], grad.sum(0).squeeze(0) if grads[2] is not None else None


@fault("crash", inputs=layer, argument="bias")
class BiasAlways(Base):
    @staticmethod
    def forward(ctx, input, weight, bias=None):
        out = Base.forward(ctx, input, weight, bias)
        ctx.save_for_backward(input, weight, bias)
        return out

    @staticmethod
    def backward(ctx, grad):
        input, weight, bias = ctx.saved_tensors
        need = ctx.needs_input_grad
        scale = bias.new_ones(())
        rows = grad.reshape(-1, grad.shape[-1])
        return (
            grad @ weight * scale if need[0] else None,
            rows.mT @ input.reshape(-1, input.shape[-1]) if need[1] else None,
            rows.sum(0) if need[2] else None,
        )


@fault("gradient-count", inputs=layer)
class BiasForgotten(Base):
    @staticmethod
    def backward(ctx, grad):
        return Linear.backward(ctx, grad)[:2]


@fault("gradient-shape", inputs=layer, argument="bias")
class BiasNotSummedOddly(Base):
    @staticmethod
    def backward(ctx, grad):
        input, weight, bias = Linear.backward(ctx, grad)
        return input, weight, None if bias is None else bias.unsqueeze(1)


@fault("gradient-shape", inputs=layer, argument="bias")
class BiasNotSummed(Base):
    """The engine sums it: right by luck, so a warning."""

    @staticmethod
    def backward(ctx, grad):
        input, weight, bias = Linear.backward(ctx, grad)
        return input, weight, None if bias is None else grad.clone()


@fault("gradient-shape", inputs=layer, argument="weight")
class WeightShapedLikeItsTranspose(Base):
    @staticmethod
    def backward(ctx, grad):
        input, weight, bias = Linear.backward(ctx, grad)
        return input, None if weight is None else weight.mT, bias


@fault("gradient-transposed", inputs=square, argument="weight")
class WeightTransposed(Base):
    @staticmethod
    def backward(ctx, grad):
        input, weight, bias = Linear.backward(ctx, grad)
        return input, None if weight is None else weight.mT, bias


@fault("gradient-swapped", inputs=square, argument="input", also=("subset-wrong", "edge-shape"))
class Swapped(Base):
    @staticmethod
    def backward(ctx, grad):
        input, weight, bias = Linear.backward(ctx, grad)
        return weight, input, bias


@fault("gradient-scale", inputs=layer, argument="bias", says="1/4x")
class BiasMean(Base):
    @staticmethod
    def backward(ctx, grad):
        input, weight, bias = Linear.backward(ctx, grad)
        return input, weight, None if bias is None else bias / grad.shape[0]


@fault("gradient-sign", inputs=layer, argument="weight")
class WeightNegated(Base):
    @staticmethod
    def backward(ctx, grad):
        input, weight, bias = Linear.backward(ctx, grad)
        return input, None if weight is None else -weight, bias


@fault("gradient-missing", inputs=layer, argument="weight")
class WeightNone(Base):
    @staticmethod
    def backward(ctx, grad):
        input, _, bias = Linear.backward(ctx, grad)
        return input, None, bias


@fault("gradient-ignores-upstream", inputs=layer, argument="input")
class FirstRowOnly(Base):
    @staticmethod
    def backward(ctx, grad):
        return Linear.backward(ctx, grad[:1].expand_as(grad))


@fault("subset-wrong", inputs=layer, also=("gradient-count",))
class NeedsShifted(Base):
    """needs_input_grad read as if ctx had a place in it."""

    @staticmethod
    def backward(ctx, grad):
        input, weight = ctx.saved_tensors
        need = (*ctx.needs_input_grad[1:], ctx.needs_input_grad[0])
        rows = grad.reshape(-1, grad.shape[-1])
        return (
            grad @ weight if need[0] else None,
            rows.mT @ input.reshape(-1, input.shape[-1]) if need[1] else None,
            rows.sum(0) if need[2] else None,
        )


@fault("needless-gradient", inputs=layer)
class AllGradientsAlways(Base):
    @staticmethod
    def backward(ctx, grad):
        input, weight = ctx.saved_tensors
        rows = grad.reshape(-1, grad.shape[-1])
        return (
            grad @ weight,
            rows.mT @ input.reshape(-1, input.shape[-1]),
            rows.sum(0) if ctx.has_bias else None,
        )


@fault("edge-shape", inputs=layer)
class TwoDimensionsOnly(Base):
    @staticmethod
    def backward(ctx, grad):
        input, weight = ctx.saved_tensors
        need = ctx.needs_input_grad
        return (
            grad.mm(weight) if need[0] else None,
            grad.t().mm(input) if need[1] else None,
            grad.sum(0) if ctx.has_bias and need[2] else None,
        )


@fault(
    "gradient-wrong",
    inputs=lambda: (rand(300, 3), rand(5, 3, seed=1), rand(5, seed=2)),
    argument="input",
    says="row 17",
)
class OneRowOf300(Base):
    @staticmethod
    def backward(ctx, grad):
        input, weight, bias = Linear.backward(ctx, grad)
        if input is not None and input.shape[0] > 17:
            input = input.clone()
            input[17] *= -1
        return input, weight, bias


@fault(
    "gradient-wrong",
    inputs=lambda: (rand(40, 40), rand(5, 40, seed=1), rand(5, seed=2)),
    argument="input",
    says="[3, 7]",
)
class OneElementOf1600(Base):
    @staticmethod
    def backward(ctx, grad):
        input, weight, bias = Linear.backward(ctx, grad)
        if input is not None and input.dim() == 2 and input.shape[0] > 3 and input.shape[1] > 7:
            input = input.clone()
            input[3, 7] *= 1.05
        return input, weight, bias


@clean(inputs=lambda: (rand(3, 4), rand(4, 5, seed=1)))
class MatmulSetupContext(Function):
    @staticmethod
    def forward(a, b):
        return a.mm(b)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, grad):
        a, b = ctx.saved_tensors
        return (
            grad.mm(b.t()) if ctx.needs_input_grad[0] else None,
            a.t().mm(grad) if ctx.needs_input_grad[1] else None,
        )


@fault("gradient-scale", inputs=lambda: (rand(3, 4), rand(4, 5, seed=1)), argument="b")
class MatmulHalf(MatmulSetupContext):
    @staticmethod
    def backward(ctx, grad):
        a, b = MatmulSetupContext.backward(ctx, grad)
        return a, None if b is None else b / 2


@fault("layout-dependent", inputs=lambda: (rand(3, 4), rand(4, 5, seed=1)))
class FlatMemoryUpstream(MatmulSetupContext):
    """Reads the upstream as if it were contiguous, like a kernel that is handed a pointer."""

    @staticmethod
    def backward(ctx, grad):
        flat = torch.as_strided(grad, (grad.numel(),), (1,), grad.storage_offset()) if grad.stride() != (0, 0) else grad
        return MatmulSetupContext.backward(ctx, flat.reshape(grad.shape))


@fault("layout-dependent", inputs=lambda: (rand(3, 4), rand(4, 5, seed=1)))
class ViewsUpstream(MatmulSetupContext):
    @staticmethod
    def backward(ctx, grad):
        return MatmulSetupContext.backward(ctx, grad.view(-1).view(grad.shape))
