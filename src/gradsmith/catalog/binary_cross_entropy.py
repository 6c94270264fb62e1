"""The losses of binary classification: cross entropy of logits, and the focal loss."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from gradsmith.catalog.pointwise import check_reduction, check_same_shape, gradient, reduced
from gradsmith.catalog.rows import accumulation, watched
from gradsmith.define.op import op

Maybe = TypeVar("Maybe", Tensor, Tensor | None)
_MANY = 2  # how much more than other losses the focal loss has in the cache at a time


@op(cast="float32")
def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """-w (p t log σ(x) + (1-t) log(1 - σ(x))): as `torch.nn.functional.binary_cross_entropy_with_logits`.

    σ is the logistic function, x the input, t the target, w the weight and p the pos_weight. From
    (log σ(x))' = 1 - σ(x), 1 - σ(x) = σ(-x), and for the upstream gradient g, over the number of elements for the mean,

        ∂L/∂x = g w ((1-t) σ(x) - p t σ(-x)), which is g w (σ(x) - t) where p = 1
        ∂L/∂t = g w (log σ(-x) - p log σ(x)), which is -g w x where p = 1
        ∂L/∂w = g l,  l the loss without the weight        ∂L/∂p = -g w t log σ(x)

    log σ is computed without overflow, and no two large terms cancel.

    Args:
        input: logits of any shape; a floating-point dtype. Half and bfloat16 are computed in float32 and rounded once.
        target: of the shape of input, usually from 0 to 1.
        weight: a factor for each element, which broadcasts to input; or None.
        reduction: "none", "mean" or "sum".
        pos_weight: a factor for the positive part of each class, which broadcasts to input; or None.

    Returns:
        A scalar, or with reduction="none" the loss of each element. Under autocast the computation is in float32.

    Saves: input, target, weight and pos_weight, and no intermediate value. The gradients of weight and pos_weight
    exist, which torch refuses. Source: PyTorch's derivatives.yaml, `binary_cross_entropy_with_logits_backward`.

    Raises ValueError where the shapes of input and target differ or for another `reduction`, as torch does.

    >>> x = torch.tensor([0.0, 1e4], requires_grad=True)
    >>> loss = binary_cross_entropy_with_logits(x, torch.tensor([1.0, 0.0]), reduction="none")
    >>> loss.detach(), torch.autograd.grad(loss.sum(), x)
    (tensor([6.9315e-01, 1.0000e+04]), (tensor([-0.5000,  1.0000]),))
    """
    check_reduction("binary_cross_entropy_with_logits", reduction)
    check_same_shape("binary_cross_entropy_with_logits", input, target)
    return reduced(_cross_entropy, (input, target, weight, pos_weight), reduction)


@binary_cross_entropy_with_logits.vjp("input")
def _(
    grad: Tensor, input: Tensor, target: Tensor, weight: Tensor | None, pos_weight: Tensor | None, reduction: str
) -> Tensor:
    def slope(grad: Tensor, x: Tensor, t: Tensor, w: Tensor | None, p: Tensor | None) -> Tensor:
        wide = _wide(x)
        if p is None and not watched():
            sigma = torch.sigmoid(wide) if wide is x else wide.sigmoid_()
            return _times(sigma.sub_(t).mul_(grad), w)
        x, t, p = wide, _wide(t), _wide(p)
        direction = torch.sigmoid(x) - t if p is None else (1 - t) * torch.sigmoid(x) - p * t * torch.sigmoid(-x)
        return _times(direction * grad, w)

    return gradient(slope, grad, (input, target, weight, pos_weight), input.shape, input.dtype, reduction)


@binary_cross_entropy_with_logits.vjp("target")
def _(
    grad: Tensor,
    input: Tensor,
    target_shape: torch.Size,
    target_dtype: torch.dtype,
    weight: Tensor | None,
    pos_weight: Tensor | None,
    reduction: str,
) -> Tensor:
    def slope(grad: Tensor, x: Tensor, w: Tensor | None, p: Tensor | None) -> Tensor:
        x, p = _wide(x), _wide(p)
        direction = -x if p is None else logsigmoid(-x) - p * logsigmoid(x)
        return _times(direction * grad, w)

    return gradient(slope, grad, (input, weight, pos_weight), target_shape, target_dtype, reduction)


@binary_cross_entropy_with_logits.vjp("weight")
def _(grad: Tensor, input: Tensor, target: Tensor, weight: Tensor, pos_weight: Tensor | None, reduction: str) -> Tensor:
    def slope(grad: Tensor, x: Tensor, t: Tensor, p: Tensor | None) -> Tensor:
        return grad * _cross_entropy(x, t, None, p)

    return gradient(slope, grad, (input, target, pos_weight), weight.shape, weight.dtype, reduction)


@binary_cross_entropy_with_logits.vjp("pos_weight")
def _(grad: Tensor, input: Tensor, target: Tensor, weight: Tensor | None, pos_weight: Tensor, reduction: str) -> Tensor:
    def slope(grad: Tensor, x: Tensor, t: Tensor, w: Tensor | None) -> Tensor:
        return _times(-logsigmoid(_wide(x)) * t * grad, w)

    return gradient(slope, grad, (input, target, weight), pos_weight.shape, pos_weight.dtype, reduction)


def _cross_entropy(x: Tensor, t: Tensor, w: Tensor | None = None, p: Tensor | None = None) -> Tensor:
    x, t = _wide(x), _wide(t)
    if p is None and not watched():  # one logarithm for both, which has a kink at 0 for autograd alone
        beyond = x.abs().neg_().exp_().log1p_()  # -log σ(|x|), quicker than `logsigmoid`
        return _times(x.relu().addcmul_(x, t, value=-1).add_(beyond), w)
    return -_times(_times(t, p) * logsigmoid(x) + (1 - t) * logsigmoid(-x), w)


@op(cast="float32")
def focal_loss(
    inputs: Tensor, targets: Tensor, alpha: float = 0.25, gamma: float = 2.0, reduction: str = "none"
) -> Tensor:
    """α_t (1 - p_t)^γ of the binary cross entropy: as torchvision's `sigmoid_focal_loss`, for logits.

    With p = σ(x) and c = -t log p - (1-t) log(1-p), the loss of an element is

        l = a q^γ c,    q = 1 - p_t = (1-t) p + t (1-p),    a = α t + (1-α) (1-t), or 1 where α < 0

    and since p' = p (1-p) and c' = p - t, for the upstream gradient g, over the number of elements for the mean,

        ∂L/∂x = g a q^γ (p - t + γ c (1-2t) p (1-p)/q)
        ∂L/∂t = g q^γ (a (γ c (1-2p)/q - x) + a' c),    a' = 2α - 1, or 0 where α < 0

    1 - p is σ(-x), so that q is exact to rounding for targets 0 and 1 however large the logits, where 1 - p_t is 0 in
    float32 from x = 17 on.

    Args:
        inputs: logits of any shape; a floating-point dtype. Half and bfloat16 are computed in float32 and rounded once.
        targets: of the shape of inputs, from 0 to 1.
        alpha: the weight of the positive class, from 0 to 1; below 0 there is none.
        gamma: how much less what is classified well counts; 0 or above.
        reduction: "none", "mean" or "sum".

    Returns:
        With reduction="none" the loss of each element, else a scalar. Under autocast the computation is in float32.

    Saves: inputs and targets, and no intermediate value. Source: Lin, Goyal, Girshick, He and Dollár,
    https://arxiv.org/abs/1708.02002, equation 5.

    Raises ValueError where the shapes differ, for another `reduction`, an alpha above 1 or a gamma below 0.

    >>> x = torch.tensor([0.0, 3.0], requires_grad=True)
    >>> focal_loss(x, torch.ones(2)).detach()
    tensor([4.3322e-02, 2.7321e-05])
    """
    check_reduction("focal_loss", reduction)
    check_same_shape("focal_loss", inputs, targets, ("inputs", "targets"))
    if not alpha <= 1:
        raise ValueError(f"focal_loss: alpha is {alpha}, expected a number from 0 to 1, or one below 0 for no weight")
    if not gamma >= 0:
        raise ValueError(f"focal_loss: gamma is {gamma}, expected a number that is not below 0")

    def value(x: Tensor, t: Tensor) -> Tensor:
        x, t = _wide(x), _wide(t)
        _, _, q = _odds(x, t)
        if not watched():
            return q.pow_(gamma).mul_(_balance(t, alpha)).mul_(_cross_entropy(x, t))
        return _balance(t, alpha) * q**gamma * _cross_entropy(x, t)

    return reduced(value, (inputs, targets), reduction, times=_MANY)


@focal_loss.vjp("inputs")
def _(grad: Tensor, inputs: Tensor, targets: Tensor, alpha: float, gamma: float, reduction: str) -> Tensor:
    def slope(grad: Tensor, x: Tensor, t: Tensor) -> Tensor:
        x, t = _wide(x), _wide(t)
        if not watched():
            return _focal_slope(x, t, alpha, gamma).mul_(grad)
        p, rest, q = _odds(x, t)
        direction = (1 - t) * p - t * rest  # p - t, without cancellation
        direction = direction + gamma * _cross_entropy(x, t) * (1 - 2 * t) * (p * rest / q)
        return _balance(t, alpha) * q**gamma * direction * grad

    return gradient(slope, grad, (inputs, targets), inputs.shape, inputs.dtype, reduction, times=_MANY)


@focal_loss.vjp("targets")
def _(grad: Tensor, inputs: Tensor, targets: Tensor, alpha: float, gamma: float, reduction: str) -> Tensor:
    def slope(grad: Tensor, x: Tensor, t: Tensor) -> Tensor:
        x, t = _wide(x), _wide(t)
        (p, rest, q), loss = _odds(x, t), _cross_entropy(x, t)
        direction = gamma * loss * (rest - p) / q - x
        return q**gamma * (_balance(t, alpha) * direction + (2 * alpha - 1 if alpha >= 0 else 0) * loss) * grad

    return gradient(slope, grad, (inputs, targets), targets.shape, targets.dtype, reduction)


def _focal_slope(x: Tensor, t: Tensor, alpha: float, gamma: float) -> Tensor:
    """The same in as few passes as can be; `lerp` is exact for targets 0 and 1, too."""
    p, rest, q = _odds(x, t)
    curve = (p * rest).div_(q).mul_(_cross_entropy(x, t))
    curve.addcmul_(curve, t, value=-2)
    direction = torch.lerp(p, rest.neg_(), t, out=p).add_(curve, alpha=gamma)
    return direction.mul_(q.pow_(gamma)).mul_(_balance(t, alpha))


def _odds(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """p, 1 - p and 1 - p_t, the last kept off 0 so that any power of it has a derivative."""
    p, rest = torch.sigmoid(x), torch.sigmoid(-x)
    return p, rest, torch.lerp(p, rest, t) + torch.finfo(p.dtype).tiny  # too little to change any other number


def _balance(t: Tensor, alpha: float) -> Tensor | float:
    if alpha < 0:
        return 1.0
    if watched():
        return alpha * t + (1 - alpha) * (1 - t)
    return (1 - t).mul_(1 - alpha).add_(t, alpha=alpha)


def _wide(tensor: Maybe) -> Maybe:
    return None if tensor is None else tensor.to(accumulation(tensor.dtype))


def _times(tensor: Tensor, factor: Tensor | None) -> Tensor:
    return tensor if factor is None else tensor * factor
