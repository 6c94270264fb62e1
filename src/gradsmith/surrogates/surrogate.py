"""`surrogate`: another function's derivative for a function that has no useful one of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ParamSpec

import torch
from torch import Tensor

from gradsmith.define.errors import DefinitionError
from gradsmith.define.op import Op
from gradsmith.surrogates.elementwise import argument_names, formula, keeping_dtype, leading

P = ParamSpec("P")


def surrogate(
    forward: Callable[P, Tensor],
    derivative: Callable[..., Tensor] | None = None,
    *,
    primitive: Callable[..., Tensor] | None = None,
) -> Op[P, Tensor]:
    """Make an op of `forward` that is differentiated as if it were another function.

    Give one of the two, or both:

    * `derivative`: the gradient of the first argument x is `grad * derivative(x)`, element by element. A derivative of
      several parameters gets as many of the leading arguments.
    * `primitive`: a smooth function of the same arguments and the same output shape; the gradients of all tensor
      arguments are its own. It need not be elementwise: a one-hot argmax may have the gradient of softmax.

    With both, `derivative` is what runs, and `primitive` is the declaration that `gs.check` holds it against. The
    value is that of `forward`, bit by bit, and a second derivative is that of the declared backward.

    Args:
        forward: a function of tensors and plain values that returns a tensor of the dtype of its first tensor.
        derivative, primitive: see above.

    Raises:
        DefinitionError: where neither is given.
        CallError: in a call, where `forward` returned another dtype, or with `derivative` another shape.

    >>> spike = surrogate(lambda v: (v >= 0).to(v.dtype), lambda v: 1 / (1 + 10 * v.abs()) ** 2)
    >>> v = torch.tensor([-0.1, 0.0, 0.9], requires_grad=True)
    >>> torch.autograd.grad(spike(v).sum(), v)
    (tensor([0.2500, 1.0000, 0.0100]),)

    Source: Neftci, Mostafa and Zenke 2019, https://arxiv.org/abs/1901.09948.
    """
    names = argument_names(forward, "surrogate")
    checked = keeping_dtype(forward, "surrogate", keep_shape=derivative is not None)
    if derivative is not None:
        curve, needs = derivative, leading(derivative, names)
        rule = formula(lambda grad, *values: grad * curve(*values), "grad", *needs)
        return Op(checked, {names[0]: rule}, declared="surrogate", surrogate=primitive)
    if primitive is None:
        raise DefinitionError(
            "surrogate: give a derivative (a function of the input) or primitive= (a smooth function to differentiate)"
        )
    rule = formula(_pullback(primitive, names), "grad", *names, "needs")
    if len(names) == 1:
        return Op(checked, {names[0]: rule}, declared="surrogate", surrogate=primitive)
    made = Op(checked, {}, declared="surrogate", surrogate=primitive)
    made.vjp(*names)(rule)
    return made


def _pullback(primitive: Callable[..., Tensor], names: Sequence[str]) -> Callable[..., Any]:
    """A formula for all of `names` at once: the vjp of `primitive`, with respect to those that need a gradient."""

    def rule(grad: Tensor, *values: Any) -> Any:
        arguments, needs = values[:-1], values[-1]
        wanted = [index for index, name in enumerate(names) if needs[name]]

        def of_wanted(*tensors: Tensor) -> Tensor:
            full = list(arguments)
            for index, tensor in zip(wanted, tensors, strict=True):
                full[index] = tensor
            return primitive(*full)

        pull = torch.func.vjp(of_wanted, *[arguments[index] for index in wanted])[1]
        grads = dict(zip(wanted, pull(grad), strict=True))
        if len(names) == 1:
            return grads[0]
        return tuple(grads.get(index) for index in range(len(names)))

    return rule
