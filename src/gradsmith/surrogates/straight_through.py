"""`straight_through`: the gradient passes a function without a derivative as if it were the identity."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, overload

from torch import Tensor
from torch.nn import functional

from gradsmith.define.errors import DefinitionError
from gradsmith.define.op import Op
from gradsmith.surrogates.elementwise import argument_names, formula, keeping_dtype

P = ParamSpec("P")
Mask = str | Callable[[Tensor], Tensor]


def _identity(x: Tensor, *rest: Any) -> Tensor:
    return x


def _hardtanh(x: Tensor, *rest: Any) -> Tensor:
    return functional.hardtanh(x)


def _relu(x: Tensor, *rest: Any) -> Tensor:
    return functional.relu(x)


# name -> the mask, and the function whose derivative it is
MASKS: dict[str, tuple[Callable[[Tensor], Tensor] | None, Callable[..., Tensor]]] = {
    "identity": (None, _identity),
    "hardtanh": (lambda x: x.abs() <= 1, _hardtanh),
    "relu": (lambda x: x > 0, _relu),
}


@overload
def straight_through(forward: Callable[P, Tensor], /, *, mask: Mask = "identity") -> Op[P, Tensor]: ...
@overload
def straight_through(*, mask: Mask = "identity") -> Callable[[Callable[P, Tensor]], Op[P, Tensor]]: ...
def straight_through(forward: Any = None, /, *, mask: Mask = "identity") -> Any:
    """Make an op of `forward` whose backward lets the upstream gradient pass: `grad * mask(x)`.

    ============  ==========================  ==============================================================
    `mask`        gradient of x               source
    ============  ==========================  ==============================================================
    "identity"    grad                        Bengio et al. 2013, https://arxiv.org/abs/1308.3432
    "hardtanh"    grad where abs(x) <= 1      Courbariaux et al. 2016, https://arxiv.org/abs/1602.02830
    "relu"        grad where x > 0            Cai et al. 2017, https://arxiv.org/abs/1702.00953
    a function    grad * mask(x)              yours
    ============  ==========================  ==============================================================

    The value is that of `forward`, bit by bit: `x + (forward(x) - x).detach()` is not. The identity saves nothing, the
    others x. A second derivative is that of the declared backward.

    Args:
        forward: an elementwise function of a tensor, which returns its shape and dtype. Further arguments are passed
            on; to ask for their gradient raises MissingFormula.
        mask: see above.

    Raises:
        DefinitionError: for an unknown mask.
        CallError: in a call, where `forward` returned another shape or dtype.

    >>> import torch
    >>> from gradsmith import straight_through
    >>> quantise = straight_through(torch.round)
    >>> x = torch.tensor([0.4, 1.6], requires_grad=True)
    >>> quantise(x), torch.autograd.grad(quantise(x).sum(), x)
    (tensor([0., 2.], grad_fn=<roundBackward>), (tensor([1., 1.]),))

    As a decorator it takes options, too:

    >>> @straight_through(mask=lambda x: x.abs() < 2)
    ... def three_levels(x):
    ...     return x.round().clamp(-1, 1)
    """
    if forward is None:
        return lambda function: straight_through(function, mask=mask)
    if isinstance(mask, str) and mask not in MASKS:
        raise DefinitionError(
            f"straight_through: there is no mask {mask!r}; it is {', '.join(map(repr, MASKS))} or a function of x"
        )
    factor, primitive = MASKS[mask] if isinstance(mask, str) else (mask, None)
    name = argument_names(forward, "straight_through")[0]
    if factor is None:
        rule = formula(lambda grad: grad, "grad")
    else:
        rule = formula(lambda grad, x: grad * factor(x), "grad", name)
    return Op(
        keeping_dtype(forward, "straight_through", keep_shape=True),
        {name: rule},
        declared="straight-through",
        surrogate=primitive,
    )
