"""Cross entropy with its gradient computed in the forward, while the logits are at hand."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gradsmith.catalog.cross_entropy_inplace import spend, why_not
from gradsmith.catalog.rows import accumulation, watched
from gradsmith.catalog.softmax_loss import check_labels, losses_and_gradient, reduced, row_scale
from gradsmith.catalog.softmax_step import Loss
from gradsmith.define._private import transformed
from gradsmith.define.classic import Function
from gradsmith.define.errors import CallError
from gradsmith.native import kernels

SMALLEST = 2**18
"""The number of logits from which it pays: below, the calls cost more than the passes over memory."""

# Not float16: a gradient computed before the loss scale is known would fall below its smallest number.
_DTYPES = (torch.float32, torch.float64, torch.bfloat16)


class CrossEntropy(Function):
    """(loss, gradient) of logits (N, C) and class indices (N,), where gradient = ∂(Σ loss)/∂logits.

    The gradient is an output, and a function of the logits like any other. For a row with upstream scale s it is
    s (A p - q), p = softmax, with A and q of the row's target alone, so that

        ∂gradient_k/∂z_j = s A (1[j = k] p_k - p_k p_j),    p = (gradient / s + q) / A

    which is all that a second derivative needs: the logits are not saved, and may be overwritten by the gradient. A
    class (not a table of formulas) because of that: `mark_dirty` belongs to the class style.

    Saves: the gradient, targets and weight.
    """

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        targets: Tensor,
        weight: Tensor | None,
        ignore_index: int,
        reduction: str,
        label_smoothing: float,
        inplace: bool,
    ) -> tuple[Tensor, Tensor]:
        loss = Loss(ignore_index, label_smoothing)
        scale, total = row_scale(targets, weight, ignore_index, reduction, accumulation(logits.dtype))
        losses, gradient = losses_and_gradient(logits, targets, weight, loss, scale, logits if inplace else None)
        if inplace:
            ctx.mark_dirty(logits)
        ctx.save_for_backward(gradient, targets, weight)
        ctx.loss, ctx.reduction, ctx.inplace = loss, reduction, inplace
        ctx.set_materialize_grads(False)
        return reduced(losses, total, reduction, logits.dtype), gradient

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor | None, grad_gradient: Tensor | None) -> tuple[Any, ...]:
        gradient, targets, weight = ctx.saved_tensors
        result = None if grad_loss is None else _times(gradient, grad_loss)
        if grad_gradient is not None:
            second = _curvature(grad_gradient, gradient, targets, weight, ctx.loss, ctx.reduction)
            result = second if result is None else result + second
        return result, None, None, None, None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *others: None) -> tuple[Tensor, Tensor]:
        gradient, targets, weight = ctx.saved_tensors
        along = (gradient * tangent).sum(1)
        moved = _curvature(tangent, gradient, targets, weight, ctx.loss, ctx.reduction)
        # Of what is written over, the tangent is written over, too.
        return along if ctx.reduction == "none" else along.sum(), tangent.copy_(moved) if ctx.inplace else moved


def fused(
    logits: Tensor,
    targets: Tensor,
    weight: Tensor | None,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
    inplace: bool,
) -> Tensor:
    """The loss alone, which is what a caller differentiates."""
    if inplace:
        check_labels(targets, logits.shape[1], ignore_index)  # before anything is spent
        logits = spend(logits)
    loss, _ = CrossEntropy.apply(logits, targets, weight, ignore_index, reduction, label_smoothing, inplace)
    return loss  # type: ignore[no-any-return]


def is_large(logits: Tensor) -> bool:
    """Whether there are so many logits that no other tensor of their size should be made."""
    return logits.numel() >= SMALLEST


def is_worth_it(logits: Tensor, targets: Tensor, weight: Tensor | None, reduction: str) -> bool:
    """Whether the gradient of these logits is better computed in the forward.

    With an upstream for each row ("none") it has to be multiplied by them later, in a tensor more: then the native
    kernel is as quick where it reads the logits again, but torch ops are not.
    """
    return (
        is_large(logits)
        and logits.is_cpu  # elsewhere the upstream's value is not at hand to see whether it is 1
        and _wanted(logits)
        and _complaint(logits, targets, weight) is None
        and (reduction != "none" or kernels(logits.detach()) is None)
    )


def is_overwritable(logits: Tensor, targets: Tensor, weight: Tensor | None) -> bool:
    """Whether there is a gradient to write over the logits. Raises CallError where that cannot be done."""
    if not _wanted(logits):
        return False
    complaint = _complaint(logits, targets, weight) or why_not(logits)
    if complaint is not None:
        raise CallError(f"cross_entropy: inplace=True, but {complaint}. Leave out inplace=True.")
    return True


def are_rows(logits: Tensor, targets: Tensor, weight: Tensor | None) -> bool:
    """Whether these are logits (N, C), class indices (N,) and a weight for each class."""
    return (
        logits.dim() == 2
        and targets.dim() == 1
        and targets.dtype == torch.long
        and len(targets) == len(logits)
        and (weight is None or weight.shape == logits.shape[1:])
    )


def _wanted(logits: Tensor) -> bool:
    """Whether a backward may follow, and nothing transforms the call."""
    return torch.is_grad_enabled() and logits.requires_grad and not transformed()


def _complaint(logits: Tensor, targets: Tensor, weight: Tensor | None) -> str | None:
    """Why the gradient of these arguments is not for the forward; None where it is."""
    if not are_rows(logits, targets, weight):
        return (
            f"`logits` has shape {list(logits.shape)}, `targets` is {targets.dtype} of shape {list(targets.shape)} and "
            f"`weight` {None if weight is None else list(weight.shape)}, expected (N, C), class indices (N,), and (C,) "
            f"or None"
        )
    if logits.dtype not in _DTYPES:
        return f"`logits` is {logits.dtype}, whose range does not hold a gradient before the loss is scaled"
    if weight is not None and weight.requires_grad:
        return "`weight` requires a gradient, too"
    return None


def _times(gradient: Tensor, upstream: Tensor) -> Tensor:
    if upstream.dim():
        return gradient * upstream[:, None]
    if not watched() and upstream.item() == 1:
        return gradient
    return gradient * upstream


def _curvature(
    upstream: Tensor, gradient: Tensor, targets: Tensor, weight: Tensor | None, loss: Loss, reduction: str
) -> Tensor:
    """The upstream of the gradient times its derivative, which is symmetric."""
    wide, classes = accumulation(gradient.dtype), gradient.shape[1]
    scale = row_scale(targets, weight, loss.ignore_index, reduction, wide)[0][:, None]
    labels = torch.where(targets == loss.ignore_index, 0, targets)[:, None]
    weights = gradient.new_ones(classes, dtype=wide) if weight is None else weight.to(wide)
    on_label = (1 - loss.label_smoothing) * weights[labels]
    on_all = loss.label_smoothing / classes * weights
    size = on_label + on_all.sum()
    share = torch.where(scale * size == 0, 0, 1 / (scale * size))  # of ignored rows, or of weight 0, there is no p
    target = on_all.expand(len(labels), classes).scatter_add(1, labels, on_label)
    p = share * (gradient.to(wide) + scale * target)
    arriving = upstream.to(wide)
    along = (p * arriving).sum(1, keepdim=True)
    return (scale * size * p * (arriving - along)).to(gradient.dtype)
