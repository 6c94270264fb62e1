"""The losses of robust regression: quadratic near the target, linear far from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from gradsmith.catalog.pointwise import check_reduction, gradient, reduced, upstream, warn_of_broadcasting
from gradsmith.catalog.rows import accumulation, watched
from gradsmith.define.op import op

_huber_backward: Any = torch.ops.aten.huber_loss_backward.default
_smooth_l1_backward: Any = torch.ops.aten.smooth_l1_loss_backward.default
_NONE = 0  # aten's number of the reduction "none"
_ONE_PASS = 1 / 2  # as aten computes these losses
Needs = Mapping[str, bool]
Gradients = tuple[Tensor | None, Tensor | None]


@op(cast="float32")
def huber_loss(
    input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0, weight: Tensor | None = None
) -> Tensor:
    """z²/2 where |z| ≤ δ and δ (|z| - δ/2) beyond, for z = input - target: as `torch.nn.functional.huber_loss`.

    Both branches have the slope ±δ at |z| = δ, so that for the upstream gradient g, over the number of elements for
    the mean,

        ∂L/∂input = g w clamp(z, -δ, δ) = -∂L/∂target        ∂L/∂w = g l,  l the loss without the weight

    Args:
        input, target: any shapes that broadcast to one another (with a warning where they differ); a floating-point
            dtype. The sum over half and bfloat16 is taken in float32. Under autocast they are cast to float32.
        reduction: "none", "mean" or "sum".
        delta: where the loss becomes linear; above 0.
        weight: a factor for each element, which broadcasts to them; or None. The mean still divides by their number.

    Returns:
        A scalar, or with reduction="none" the loss of each element. The mean over none is NaN, as torch has it.

    Saves: input, target and weight. Source: Huber, 1964, https://doi.org/10.1214/aoms/1177703732.

    Raises ValueError for another `reduction`, and RuntimeError for a delta that is not above 0.

    >>> x = torch.tensor([0.5, 3.0], requires_grad=True)
    >>> torch.autograd.grad(huber_loss(x, torch.zeros(2), reduction="sum"), x)
    (tensor([0.5000, 1.0000]),)
    """
    check_reduction("huber_loss", reduction)
    if not delta > 0:
        raise RuntimeError(f"huber_loss: delta is {delta}, expected a number above 0")
    warn_of_broadcasting("huber_loss", input, target)

    def value(input: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        loss = functional.huber_loss(input, target, reduction="none", delta=delta)
        return loss if weight is None else loss * weight

    return reduced(value, (input, target, weight), reduction, times=_ONE_PASS)


@huber_loss.vjp("input", "target")
def _(
    grad: Tensor, input: Tensor, target: Tensor, weight: Tensor | None, reduction: str, delta: float, needs: Needs
) -> Gradients:
    return _opposite(
        lambda g, x, t: _huber_backward(g, x, t, _NONE, delta),
        lambda z: z.clamp(-delta, delta),
        *(grad, input, target, weight, reduction, needs),
    )


@huber_loss.vjp("weight")
def _(grad: Tensor, input: Tensor, target: Tensor, weight: Tensor, reduction: str, delta: float) -> Tensor:
    def slope(grad: Tensor, input: Tensor, target: Tensor) -> Tensor:
        return grad * functional.huber_loss(input, target, reduction="none", delta=delta)

    return gradient(slope, grad, (input, target), weight.shape, weight.dtype, reduction)


@op(cast="float32")
def smooth_l1_loss(input: Tensor, target: Tensor, reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """z²/(2β) where |z| < β and |z| - β/2 beyond, for z = input - target: as `torch.nn.functional.smooth_l1_loss`.

    It is the Huber loss with δ = β over β, and for β = 0 the absolute difference. For the upstream gradient g, over
    the number of elements for the mean,

        ∂L/∂input = g clamp(z/β, -1, 1) = -∂L/∂target        and g sign(z) for β = 0

    Args:
        input, target: any shapes that broadcast to one another (with a warning where they differ); a floating-point
            dtype. The sum over half and bfloat16 is taken in float32. Under autocast they are cast to float32.
        reduction: "none", "mean" or "sum".
        beta: where the loss becomes linear; 0 or above.

    Returns:
        A scalar, or with reduction="none" the loss of each element. The mean over none is NaN, as torch has it.

    Saves: input and target. Source: Girshick, 2015, https://arxiv.org/abs/1504.08083, equation 3.

    Raises ValueError for another `reduction`, and RuntimeError for a beta below 0.

    >>> x = torch.tensor([0.5, 3.0], requires_grad=True)
    >>> torch.autograd.grad(smooth_l1_loss(x, torch.zeros(2), "sum", beta=2.0), x)
    (tensor([0.2500, 1.0000]),)
    """
    check_reduction("smooth_l1_loss", reduction)
    if not beta >= 0:
        raise RuntimeError(f"smooth_l1_loss: beta is {beta}, expected a number that is not below 0")
    warn_of_broadcasting("smooth_l1_loss", input, target)

    def value(input: Tensor, target: Tensor) -> Tensor:
        return functional.smooth_l1_loss(input, target, reduction="none", beta=beta)

    return reduced(value, (input, target), reduction, times=_ONE_PASS)


@smooth_l1_loss.vjp("input", "target")
def _(grad: Tensor, input: Tensor, target: Tensor, reduction: str, beta: float, needs: Needs) -> Gradients:
    if beta == 0:  # aten's function takes 0 for a difference below -beta
        return _opposite(lambda g, x, t: g * torch.sign(x - t), torch.sign, grad, input, target, None, reduction, needs)
    return _opposite(
        lambda g, x, t: _smooth_l1_backward(g, x, t, _NONE, beta),
        lambda z: (z / beta).clamp(-1, 1),
        *(grad, input, target, None, reduction, needs),
    )


def _opposite(
    backward: Callable[[Tensor, Tensor, Tensor], Tensor],
    slope: Callable[[Tensor], Tensor],
    grad: Tensor,
    input: Tensor,
    target: Tensor,
    weight: Tensor | None,
    reduction: str,
    needs: Needs,
) -> Gradients:
    """The gradients of input and target, of a loss of their difference: by aten in one pass, or differentiably."""
    shapes = [tensor.shape for tensor in (input, target, weight) if tensor is not None]
    common = torch.promote_types(input.dtype, target.dtype)
    at_once = weight is None and not watched()
    arriving = upstream(grad, torch.broadcast_shapes(*shapes), reduction, dtype=common if at_once else None)
    if weight is not None:
        arriving = arriving * weight
    if watched():
        wide = accumulation(common)
        for_input = arriving * slope(input.to(wide) - target.to(wide))
    else:
        for_input = backward(arriving.to(common), input, target)
    return (
        for_input.sum_to_size(input.shape) if needs["input"] else None,
        -for_input.sum_to_size(target.shape) if needs["target"] else None,
    )
