"""Rules beside the backward: jvp, vmap; and what half precision and saved tensors bring out."""

from __future__ import annotations

import torch
from registry import clean, fault, positive, rand
from torch.autograd import Function


def one():
    return (rand(3, 4),)


def two():
    return rand(3, 4), rand(3, 4, seed=1)


class CubeBase(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return x**3

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(inputs[0])
        ctx.save_for_forward(inputs[0])

    @staticmethod
    def backward(ctx, grad):
        return 3 * grad * ctx.saved_tensors[0] ** 2


@clean(inputs=one)
class Cube(CubeBase):
    @staticmethod
    def jvp(ctx, tangent):
        return 3 * tangent * ctx.saved_tensors[0] ** 2


@fault("jvp-wrong", inputs=one)
class CubeJvpLacksFactor(CubeBase):
    @staticmethod
    def jvp(ctx, tangent):
        return tangent * ctx.saved_tensors[0] ** 2


@fault("jvp-wrong", inputs=one)
class CubeJvpRaises(CubeBase):
    @staticmethod
    def jvp(ctx, tangent):
        (x, _) = ctx.saved_tensors
        return 3 * tangent * x**2


@clean("no-jvp", inputs=one)
class CubeWithoutJvp(CubeBase):
    pass


class MulVmapBase(Function):
    @staticmethod
    def forward(x, y):
        return x * y

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, grad):
        x, y = ctx.saved_tensors
        return grad * y if ctx.needs_input_grad[0] else None, grad * x if ctx.needs_input_grad[1] else None


@clean(inputs=two)
class MulVmap(MulVmapBase):
    @staticmethod
    def vmap(info, in_dims, x, y):
        x, y = (
            value.movedim(dim, 0) if dim is not None else value.expand(info.batch_size, *value.shape)
            for value, dim in zip((x, y), in_dims, strict=True)
        )
        return MulVmap.apply(x, y), 0


@fault("vmap-wrong", inputs=two)
class MulVmapFactor(MulVmapBase):
    @staticmethod
    def vmap(info, in_dims, x, y):
        out, dim = MulVmap.vmap(info, in_dims, x, y)
        return 2 * out, dim


@fault("vmap-wrong", inputs=two)
class MulVmapIgnoresDims(MulVmapBase):
    @staticmethod
    def vmap(info, in_dims, x, y):
        return MulVmapIgnoresDims.apply(x, y), 0


@clean("no-vmap", inputs=two)
class MulWithoutVmap(MulVmapBase):
    pass


@fault("needless-save", inputs=two)
class SavesOutputToo(Function):
    @staticmethod
    def forward(ctx, x, y):
        out = x * y
        ctx.save_for_backward(x, y, out)
        return out

    @staticmethod
    def backward(ctx, grad):
        x, y, _ = ctx.saved_tensors
        return grad * y if ctx.needs_input_grad[0] else None, grad * x if ctx.needs_input_grad[1] else None


@fault("needless-save", inputs=one, also=("double-backward-wrong",))
class SavesTwice(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x, x.clone())
        return x * x

    @staticmethod
    def backward(ctx, grad):
        first, second = ctx.saved_tensors
        return grad * (first + second)


@fault("low-precision", inputs=lambda: (positive(64),), argument="x")
class CancelsInHalf(Function):
    """(1 + 1e-3 x) - 1: nothing is left of it in half precision."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.square()

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * 2000 * ((1 + 1e-3 * x) - 1)


@clean(inputs=lambda: (rand(4, 8),))
class Softmax(Function):
    @staticmethod
    def forward(ctx, x):
        out = x.softmax(-1)
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx, grad):
        (out,) = ctx.saved_tensors
        return out * (grad - (grad * out).sum(-1, keepdim=True))


@fault("gradient-nonfinite", inputs=lambda: (rand(4, 8),), argument="x")
class SoftplusOverflows(Function):
    """Right and finite at the values given; inf / inf for large ones."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clamp(min=0) + (-x.abs()).exp().log1p()

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * x.exp() / (1 + x.exp())


@fault("gradient-nonfinite", inputs=lambda: (rand(5),), argument="x")
class NormNanAtZero(Function):
    @staticmethod
    def forward(ctx, x):
        norm = x.square().sum().sqrt()
        ctx.save_for_backward(x, norm)
        return norm

    @staticmethod
    def backward(ctx, grad):
        x, norm = ctx.saved_tensors
        return grad * x / norm


@clean(inputs=lambda: (rand(5),))
class NormZeroAtZero(NormNanAtZero):
    @staticmethod
    def forward(ctx, x):
        norm = x.square().sum().sqrt()
        ctx.save_for_backward(x)
        return norm

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        norm = x.square().sum()
        return grad * torch.where(norm > 0, x / norm.clamp_min(1e-300).sqrt(), torch.zeros_like(x))


@fault("gradient-wrong", inputs=lambda: (rand(3, 4),), argument="x", says="with `x` with its first element 0")
class ReluSevenAtZero(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * torch.where(x == 0, 7.0, (x > 0).to(x.dtype))


@fault("gradient-wrong", "gradient-scale", "gradient-missing", inputs=lambda: (rand(6),), argument="x", says="as large")
class CubicWrongWhereLarge(Function):
    """A range that the given values do not reach."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * 3 * x.clamp(-5, 5) ** 2
