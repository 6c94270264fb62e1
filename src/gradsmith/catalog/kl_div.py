"""The Kullback-Leibler divergence of a distribution from one that is given by its logarithms."""

from __future__ import annotations

import torch
from torch import Tensor

from gradsmith.catalog.pointwise import REDUCTIONS, check_reduction, gradient, reduced
from gradsmith.catalog.rows import accumulation
from gradsmith.define.op import op


@op(cast="float32")
def kl_div(input: Tensor, target: Tensor, reduction: str = "mean", log_target: bool = False) -> Tensor:
    """t (log t - x), x the logarithm of a probability: as `torch.nn.functional.kl_div`.

    For the upstream gradient g, over the number of elements for "mean" and the size of the batch for "batchmean",

        ∂L/∂x = -g t        ∂L/∂t = g (log t + 1 - x)

    and with s = log t given in place of t, where the loss is e^s (s - x),

        ∂L/∂x = -g e^s      ∂L/∂s = g e^s (s - x + 1)

    Args:
        input: logarithms of probabilities, of any shape; a floating-point dtype. Half and bfloat16 are computed in
            float32 and rounded once.
        target: probabilities, or their logarithms; of a shape that broadcasts to that of input, or the other way.
        reduction: "none", "mean", "sum" or "batchmean", which divides the sum by the size of the first dimension of
            input: only this one is the divergence of the textbooks.
        log_target: whether target holds logarithms.

    Returns:
        A scalar, or with reduction="none" the term of each element: 0 where t = 0. Under autocast the computation is in
        float32.

    Saves: target, for the gradient of input; input as well, for that of target. torch saves more. At t = 0 the
    derivative by t is -∞, as its limit. Source: Kullback and Leibler, 1951, https://doi.org/10.1214/aoms/1177729694.

    Raises ValueError for another `reduction`, as torch does.

    >>> x = torch.tensor([[0.5, 0.5]]).log().requires_grad_()
    >>> loss = kl_div(x, torch.tensor([[1.0, 0.0]]), reduction="batchmean")
    >>> loss.detach(), torch.autograd.grad(loss, x)
    (tensor(0.6931), (tensor([[-1., -0.]]),))
    """
    check_reduction("kl_div", reduction, (*REDUCTIONS, "batchmean"))

    def value(x: Tensor, t: Tensor) -> Tensor:
        x, t = _wide(x), _wide(t)
        return torch.exp(t) * (t - x) if log_target else torch.xlogy(t, t) - t * x

    return reduced(value, (input, target), *_mean(reduction, input.shape))


@kl_div.vjp("input")
def _(
    grad: Tensor,
    input_shape: torch.Size,
    input_dtype: torch.dtype,
    target: Tensor,
    reduction: str,
    log_target: bool,
) -> Tensor:
    def slope(grad: Tensor, t: Tensor) -> Tensor:
        return -grad * (torch.exp(_wide(t)) if log_target else _wide(t))

    return gradient(slope, grad, (target,), input_shape, input_dtype, *_mean(reduction, input_shape))


@kl_div.vjp("target")
def _(grad: Tensor, input: Tensor, target: Tensor, reduction: str, log_target: bool) -> Tensor:
    def slope(grad: Tensor, x: Tensor, t: Tensor) -> Tensor:
        x, t = _wide(x), _wide(t)
        return grad * (torch.exp(t) * (t - x + 1) if log_target else torch.log(t) + 1 - x)

    return gradient(slope, grad, (input, target), target.shape, target.dtype, *_mean(reduction, input.shape))


def _mean(reduction: str, shape: torch.Size) -> tuple[str, int | None]:
    """The reduction, and what it divides by where that is not the number of elements."""
    return ("mean", shape[0] if shape else 1) if reduction == "batchmean" else (reduction, None)


def _wide(tensor: Tensor) -> Tensor:
    return tensor.to(accumulation(tensor.dtype))
