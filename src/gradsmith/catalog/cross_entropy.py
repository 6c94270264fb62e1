"""Cross entropy of logits and targets: softmax minus target, over the number of targets."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from gradsmith.catalog.cross_entropy_fused import are_rows, fused, is_large, is_overwritable, is_worth_it
from gradsmith.catalog.rows import accumulation, watched
from gradsmith.catalog.softmax_loss import losses_and_gradient, reduced, row_losses, row_scale
from gradsmith.catalog.softmax_step import Loss
from gradsmith.define.op import Op

_nll_forward: Any = torch.ops.aten.nll_loss_forward.default
_nll_backward: Any = torch.ops.aten.nll_loss_backward.default
_log_softmax_backward: Any = torch.ops.aten._log_softmax_backward_data.default
_ATEN_REDUCTIONS = {"none": 0, "mean": 1, "sum": 2}


def cross_entropy(
    logits: Tensor,
    targets: Tensor,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    inplace: bool = False,
) -> Tensor:
    """The loss of classification, with the results of `torch.nn.functional.cross_entropy`.

    With logits z, p = softmax(z) and, for each row, target probabilities q and class weights w, the loss of a row is

        l = -Σ_c w_c q_c log p_c,    log p_c = z_c - log Σ_k exp z_k

    and since ∂(log p_c)/∂z_k = 1[c = k] - p_k,

        ∂l/∂z_k = (Σ_c w_c q_c) p_k - w_k q_k

    which for a class index y without weights is softmax minus one-hot, p_k - 1[k = y]. With label smoothing ε over C
    classes, a class index is the distribution q = (1-ε) 1[k = y] + ε/C, and probabilities t are q = (1-ε) t + ε/C.
    "mean" divides by the number of rows; for class indices by Σ w_y over the rows that are not ignored. Further,

        ∂l/∂t_k = -(1-ε) w_k log p_k        ∂l/∂w_k = -q_k log p_k, and -(∂D/∂w_k) l/D where "mean" divides by D

    Args:
        logits: (C,), (N, C) or (N, C, d1, …); floating point. Of half and bfloat16 the softmax is taken in float32.
        targets: class indices of the shape of logits without C, or probabilities of the shape of logits.
        weight: (C,), a weight per class; or None.
        ignore_index: rows with this target count nothing; for class indices only.
        reduction: "none", "sum" or "mean".
        label_smoothing: from 0 to 1.
        inplace: write the gradient over logits (N, C), which then hold it in place of their values, so that it needs no
            memory. They are spent by that: a gradient through what they hold afterwards is an error, and so it is where
            another operation needs them for its backward. Under torch.func, forward mode and torch.compile, and where
            no gradient is asked for, nothing is overwritten.

    Returns:
        A scalar, or with reduction="none" one loss per row. "mean" over no rows is NaN with the gradient 0, as torch.

    Saves: of large logits (N, C) with class indices the gradient itself, computed in the forward (see `CrossEntropy`),
    so that the logits may be freed before the backward; else logits, targets and weight, and no intermediate value.
    torch saves as many bytes, and takes two more tensors of that size in the backward.

    Source: Goodfellow, Bengio and Courville, Deep Learning, section 6.2.2.3; label smoothing from
    https://arxiv.org/abs/1512.00567, section 7.

    Raises RuntimeError, ValueError or IndexError for shapes, dtypes and class indices that torch refuses, too, and
    CallError for inplace=True with logits that are a leaf, float16, not (N, C) or needed by another operation.

    >>> logits = torch.tensor([[0.2, 0.3, 0.9], [0.2, 0.3, 0.9]], requires_grad=True)
    >>> loss = cross_entropy(logits, torch.tensor([0, 0]))
    >>> loss, torch.autograd.grad(loss, logits)[0][0]
    (tensor(1.4156, grad_fn=<cross_entropyBackward>), tensor([-0.3786,  0.1342,  0.2445]))
    """
    options = weight, ignore_index, reduction, label_smoothing
    if is_overwritable(logits, targets, weight) if inplace else is_worth_it(logits, targets, weight, reduction):
        _check_options(reduction, label_smoothing)
        return fused(logits, targets, *options, inplace)
    return _table(logits, targets, *options)


def _forward(
    logits: Tensor,
    targets: Tensor,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    if _in_rows(logits, targets, weight):
        _check_options(reduction, label_smoothing)
        losses = row_losses(logits, targets, weight, Loss(ignore_index, label_smoothing))
        total = row_scale(targets, weight, ignore_index, reduction, losses.dtype)[1]
        return reduced(losses, total, reduction, logits.dtype)
    return functional.cross_entropy(
        logits, targets, weight, ignore_index=ignore_index, reduction=reduction, label_smoothing=label_smoothing
    )


_table = Op(_forward, {}, name="cross_entropy")


@_table.vjp("logits")
def _for_logits(
    grad: Tensor,
    logits: Tensor,
    targets: Tensor,
    weight: Tensor | None,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
) -> Tensor:
    if _suits_aten(logits, targets, weight, label_smoothing):
        return _by_aten(grad, logits, targets, weight, ignore_index, reduction)
    dim = _class_dim(logits)
    scale = _scale(grad, logits, targets, weight, ignore_index, reduction)
    if _in_rows(logits, targets, weight):
        loss = Loss(ignore_index, label_smoothing)
        return losses_and_gradient(logits, targets, weight, loss, scale.expand(len(targets), 1)[:, 0])[1]
    softmax = torch.softmax(logits, dim, dtype=scale.dtype)
    if _is_distribution(logits, targets):
        target = _weighted(_smoothed(targets, label_smoothing, dim), weight, dim)
        return scale * (target.sum(dim, keepdim=True) * softmax - target)
    labels, _ = _labels(targets, ignore_index, dim)
    on_label = scale * (1 - label_smoothing)
    if weight is not None:
        on_label = on_label * weight[labels]
    if label_smoothing == 0:
        gradient = softmax * on_label
    else:
        on_all = _weighted(scale.expand_as(labels) * (label_smoothing / logits.shape[dim]), weight, dim)
        total = on_label + on_all.expand_as(logits).sum(dim, keepdim=True)
        gradient = (softmax * total).sub_(on_all)  # a product: nothing else keeps it, so it may be written to
    return gradient.scatter_add_(dim, labels, -on_label.to(gradient.dtype))


@_table.vjp("targets")
def _for_targets(
    grad: Tensor,
    logits: Tensor,
    targets_shape: torch.Size,
    weight: Tensor | None,
    reduction: str,
    label_smoothing: float,
) -> Tensor:
    """Reached by probabilities alone: class indices are integers and have no gradient."""
    dim = _class_dim(logits)
    rows = _per_row(grad, reduction, _count(targets_shape, dim), dim)
    return _weighted(rows * ((label_smoothing - 1) * torch.log_softmax(logits, dim)), weight, dim)


@_table.vjp("weight")
def _for_weight(
    grad: Tensor,
    out: Tensor,
    logits: Tensor,
    targets: Tensor,
    weight: Tensor,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
) -> Tensor:
    dim = _class_dim(logits)
    scale = _scale(grad, logits, targets, weight, ignore_index, reduction)
    one_hot = None
    if _is_distribution(logits, targets):
        target = targets
    else:
        labels, valid = _labels(targets, ignore_index, dim)
        target = one_hot = torch.zeros_like(logits).scatter(dim, labels, valid.to(logits.dtype))
    gradient = -scale * _smoothed(target, label_smoothing, dim) * torch.log_softmax(logits, dim)
    if one_hot is not None and reduction == "mean":
        gradient = gradient - scale * out * one_hot
    return gradient.transpose(0, dim).flatten(1).sum(1) if gradient.dim() > 1 else gradient


def _suits_aten(logits: Tensor, targets: Tensor, weight: Tensor | None, label_smoothing: float) -> bool:
    """Whether the logits are so few that each operation counts, and these four do."""
    return (
        not is_large(logits)
        and not watched()
        and 0 < logits.dim() <= 2
        and targets.dtype == torch.long
        and targets.shape == logits.shape[:-1]
        and not label_smoothing
        and (weight is None or weight.dtype == accumulation(logits.dtype))
    )


def _by_aten(
    grad: Tensor, logits: Tensor, targets: Tensor, weight: Tensor | None, ignore_index: int, reduction: str
) -> Tensor:
    wide = accumulation(logits.dtype)
    given = targets, weight, _ATEN_REDUCTIONS[reduction], ignore_index
    log_p = torch.log_softmax(logits, -1, dtype=wide)
    total = _nll_forward(log_p, *given)[1]
    through = _log_softmax_backward(_nll_backward(grad.to(wide), log_p, *given, total), log_p, -1, wide)
    return through.to(logits.dtype)  # type: ignore[no-any-return]


def _in_rows(logits: Tensor, targets: Tensor, weight: Tensor | None) -> bool:
    """Whether to go by rows, of many logits and where nothing looks on: then no other tensor of their size is made."""
    return is_large(logits) and not watched() and are_rows(logits, targets, weight)


def _check_options(reduction: str, label_smoothing: float) -> None:
    """Let torch complain of what it does not know, in its own words."""
    if reduction not in ("none", "sum", "mean") or not 0 <= label_smoothing <= 1:
        functional.cross_entropy(
            torch.zeros(1, 1), torch.zeros(1, dtype=torch.long), reduction=reduction, label_smoothing=label_smoothing
        )


def _class_dim(logits: Tensor) -> int:
    return 0 if logits.dim() == 1 else 1


def _count(shape: torch.Size, dim: int) -> int:
    """How many rows the mean divides by; 1 where there is none, and nothing to divide."""
    return max(1, torch.Size([size for index, size in enumerate(shape) if index != dim]).numel())


def _is_distribution(logits: Tensor, targets: Tensor) -> bool:
    """Whether targets are probabilities; torch tells them by their shape, too."""
    return targets.shape == logits.shape


def _labels(targets: Tensor, ignore_index: int, dim: int) -> tuple[Tensor, Tensor]:
    """Class indices in the dimension of the classes, 0 where a row is ignored; and which rows are not."""
    labels = targets.long().unsqueeze(dim)
    valid = labels != ignore_index
    return torch.where(valid, labels, 0), valid


def _scale(
    grad: Tensor, logits: Tensor, targets: Tensor, weight: Tensor | None, ignore_index: int, reduction: str
) -> Tensor:
    """The upstream gradient of each row's loss before the reduction: in float32 or more, with one class.

    In half or bfloat16 not even the number of rows could be told.
    """
    dim = _class_dim(logits)
    upstream = grad.to(torch.promote_types(logits.dtype, torch.float32))
    if _is_distribution(logits, targets):
        return _per_row(upstream, reduction, _count(logits.shape, dim), dim)
    labels, valid = _labels(targets, ignore_index, dim)
    counts = valid.to(upstream.dtype) if weight is None else torch.where(valid, weight[labels].to(upstream.dtype), 0)
    # Where all rows are ignored the mean is 0/0, but no logit has any part in it: the gradient is 0, as torch has it.
    total = torch.where(valid.any(), counts.sum(), 1)
    return torch.where(valid, _per_row(upstream, reduction, total, dim), 0)


def _per_row(upstream: Tensor, reduction: str, total: Tensor | int, dim: int) -> Tensor:
    if reduction == "none":
        return upstream.unsqueeze(dim)
    return upstream / total if reduction == "mean" else upstream


def _smoothed(target: Tensor, label_smoothing: float, dim: int) -> Tensor:
    if label_smoothing == 0:
        return target
    return (1 - label_smoothing) * target + label_smoothing / target.shape[dim]


def _weighted(target: Tensor, weight: Tensor | None, dim: int) -> Tensor:
    if weight is None:
        return target
    return target * weight.reshape(-1, *[1] * (target.dim() - dim - 1))
