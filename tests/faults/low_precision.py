"""Right in float64, and further off in half precision than rounding explains, or only there."""

from __future__ import annotations

import torch
from registry import SaveInput, clean, fault, positive, rand
from torch.autograd import Function


@fault("low-precision", inputs=lambda: (rand(16),), argument="x")
class AnotherFormulaInHalf(SaveInput):
    """A fast path for bfloat16 alone."""

    @staticmethod
    def forward(x):
        return x.tanh()

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        if x.dtype == torch.bfloat16:
            return grad * (1 - x.tanh().abs())
        return grad * (1 - x.tanh() ** 2)


@fault("low-precision", inputs=lambda: (positive(16),), argument="x")
class OverflowsInHalf(SaveInput):
    """A loss scale that float16 cannot hold."""

    @staticmethod
    def forward(x):
        return x.square()

    @staticmethod
    def backward(ctx, grad):
        return (grad * 1e6) * ctx.saved_tensors[0] * 2e-6


@fault("low-precision", inputs=lambda: (positive(32),), argument="x")
class VarianceByDifference(SaveInput):
    """E[x^2] - E[x]^2, of numbers far from 0."""

    @staticmethod
    def forward(x):
        return (x + 20).var(unbiased=False).sqrt()

    @staticmethod
    def backward(ctx, grad):
        x = ctx.saved_tensors[0] + 20
        deviation = (x.square().mean() - x.mean() ** 2).clamp_min(1e-12).sqrt()
        return grad * (x - x.mean()) / (x.numel() * deviation)


@fault("low-precision", inputs=lambda: (rand(16),))
class MixesTypes(SaveInput):
    """A matrix of float32 meets an upstream of bfloat16."""

    @staticmethod
    def forward(x):
        return x.cumsum(0)

    @staticmethod
    def backward(ctx, grad):
        dtype = torch.float64 if grad.dtype == torch.float64 else torch.float32
        return torch.ones(len(grad), len(grad), dtype=dtype).triu() @ grad


@fault("low-precision", inputs=lambda: (rand(2048, 2), rand(2, 3, seed=1), rand(3, seed=2)), argument="bias")
class SumsRowByRow(Function):
    """Two thousand additions in bfloat16, one after the other."""

    @staticmethod
    def forward(ctx, x, w, bias):
        if x.dim() != 2:
            raise ValueError("rows")
        ctx.save_for_backward(x, w)
        return x @ w + bias

    @staticmethod
    def backward(ctx, grad):
        x, w = ctx.saved_tensors
        need = ctx.needs_input_grad
        return (
            grad @ w.mT if need[0] else None,
            x.mT @ grad if need[1] else None,
            grad.cumsum(0)[-1:].sum(0) if need[2] and grad.dtype != torch.bfloat16
            else SumsRowByRow.slowly(grad) if need[2] else None,
        )  # fmt: skip

    @staticmethod
    def slowly(grad):
        total = grad.new_zeros(grad.shape[-1])
        for row in grad.unbind(0):
            total = total + row
        return total


@clean(inputs=lambda: (rand(64),))
class SumsInSinglePrecision(SaveInput):
    @staticmethod
    def forward(x):
        return x.softmax(-1)

    @staticmethod
    def backward(ctx, grad):
        wide = torch.promote_types(grad.dtype, torch.float32)
        p = ctx.saved_tensors[0].to(wide).softmax(-1)
        g = grad.to(wide)
        return (p * (g - (g * p).sum(-1, keepdim=True))).to(grad.dtype)


@clean(inputs=lambda: (rand(3, 4, dtype=torch.float16),))
class HalfOnly(Function):
    """A kernel for float16 and nothing else."""

    @staticmethod
    def forward(ctx, x):
        if x.dtype != torch.float16:
            raise TypeError("this kernel takes float16")
        ctx.save_for_backward(x)
        return x.detach().float().tanh().half()

    @staticmethod
    def backward(ctx, grad):
        return (grad.float() * (1 - ctx.saved_tensors[0].float().tanh() ** 2)).half()


@fault(
    "gradient-sign", "gradient-scale", "gradient-wrong", inputs=lambda: (rand(3, 4, dtype=torch.float16),), argument="x"
)
class HalfOnlySign(HalfOnly):
    @staticmethod
    def backward(ctx, grad):
        return -HalfOnly.backward(ctx, grad)


@fault("gradient-scale", inputs=lambda: (rand(3, 4, dtype=torch.bfloat16),), argument="x", says="2x")
class GivenInBfloat16(SaveInput):
    """Given in half precision, judged in float64."""

    @staticmethod
    def forward(x):
        return x.sin()

    @staticmethod
    def backward(ctx, grad):
        return 2 * grad * ctx.saved_tensors[0].cos()
