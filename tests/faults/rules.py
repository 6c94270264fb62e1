"""Rules beside the backward, wrong in other ways: jvp, vmap; and what a compiler is led astray by."""

from __future__ import annotations

import torch
from registry import SaveInput, clean, fault, rand
from torch.autograd import Function


def one():
    return (rand(3, 4),)


def two():
    return rand(3, 4), rand(3, 4, seed=1)


class ProductRule(Function):
    @staticmethod
    def forward(x, y):
        return x * y

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx, grad):
        x, y = ctx.saved_tensors
        return grad * y if ctx.needs_input_grad[0] else None, grad * x if ctx.needs_input_grad[1] else None


@clean("no-vmap", inputs=two)
class ProductWithJvp(ProductRule):
    @staticmethod
    def jvp(ctx, x_tangent, y_tangent):
        x, y = ctx.saved_tensors
        return x_tangent * y + x * y_tangent


@fault("jvp-wrong", inputs=two)
class JvpOfOneArgument(ProductRule):
    @staticmethod
    def jvp(ctx, x_tangent, y_tangent):
        return x_tangent * ctx.saved_tensors[1]


@fault("jvp-wrong", inputs=two)
class JvpWithTheOtherSign(ProductRule):
    @staticmethod
    def jvp(ctx, x_tangent, y_tangent):
        x, y = ctx.saved_tensors
        return x_tangent * y - x * y_tangent


@fault("jvp-wrong", inputs=two)
class JvpOfTooFewTangents(ProductRule):
    @staticmethod
    def jvp(ctx, x_tangent):
        return x_tangent * ctx.saved_tensors[1]


@clean("framework-bug", inputs=one)
class CubeForwardMode(SaveInput):
    """Right, and zero within another forward mode: torch's own fault."""

    @staticmethod
    def forward(x):
        return x**3

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx, grad):
        return 3 * grad * ctx.saved_tensors[0] ** 2

    @staticmethod
    def jvp(ctx, tangent):
        return 3 * tangent * ctx.saved_tensors[0] ** 2


@fault("vmap-wrong", inputs=two)
class VmapOutDims(ProductRule):
    """The batch is in front and said to be at the end."""

    @staticmethod
    def vmap(info, in_dims, x, y):
        x, y = (
            value.movedim(dim, 0) if dim is not None else value.expand(info.batch_size, *value.shape)
            for value, dim in zip((x, y), in_dims, strict=True)
        )
        return VmapOutDims.apply(x, y), -1


@fault("vmap-wrong", inputs=two)
class VmapTakesEveryArgumentForBatched(ProductRule):
    @staticmethod
    def vmap(info, in_dims, x, y):
        return VmapTakesEveryArgumentForBatched.apply(x.movedim(in_dims[0], 0), y.movedim(in_dims[1], 0)), 0


@fault("vmap-wrong", inputs=one)
class GeneratedRuleForNumpy(Function):
    """The rule can be generated only for torch operations."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return torch.from_numpy(x.detach().numpy() * 2.0)

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, grad):
        return 2 * grad


@fault("vmap-wrong", inputs=one)
class GeneratedRuleForBranches(SaveInput):
    """A branch on values, which a batch does not have."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return x.sin() if x.sum() > 0 else -(-x).sin()

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.saved_tensors[0].cos()


@fault("compile-wrong", inputs=one, only="compile-wrong")
class AsksForStrides(SaveInput):
    """Eager hands over an expanded upstream, a compiler a dense one."""

    @staticmethod
    def forward(x):
        return x.sin()

    @staticmethod
    def backward(ctx, grad):
        factor = 3.0 if 0 in grad.stride() else 1.0
        return factor * grad * ctx.saved_tensors[0].cos()


@clean("no-compile", inputs=one, only="no-compile")
class PrintsInBackward(SaveInput):
    @staticmethod
    def forward(x):
        return x.sin()

    @staticmethod
    def backward(ctx, grad):
        torch._dynamo.graph_break()
        return grad * ctx.saved_tensors[0].cos()
