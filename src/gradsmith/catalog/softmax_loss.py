"""The step that all losses over a softmax share: rows of logits in, their losses and gradient out.

With capped logits z = cap tanh(x / cap) (z = x where there is no cap), lse = log Σ_k exp z_k, label y, class weights w
and label smoothing ε over C classes, the loss of a row is

    l = (1-ε) w_y (lse - z_y) + ε/C Σ_c w_c (lse - z_c) + ζ lse²

and from ∂lse/∂z_k = softmax(z)_k = p_k follows

    ∂l/∂x_k = (A p_k - (1-ε) w_y 1[k = y] - ε/C w_k) (1 - (z_k/cap)²),    A = (1-ε) w_y + ε/C Σ_c w_c + 2 ζ lse
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gradsmith.catalog.rows import accumulation, pieces, watched
from gradsmith.native import kernels


@dataclass(frozen=True)
class Loss:
    """What belongs to the loss and not to a row."""

    ignore_index: int = -100
    label_smoothing: float = 0.0
    softcap: float = 0.0  # 0: no cap
    z_loss: float = 0.0


def row_losses(logits: Tensor, targets: Tensor, weight: Tensor | None, loss: Loss) -> Tensor:
    """The loss of each row, 0 where it is ignored, in float32 or more.

    Args:
        logits: (N, C), floating-point.
        targets: (N,), class indices. Raises IndexError for one that is neither a class nor ignored.
        weight: (C,), or None.
    """
    check_labels(targets, logits.shape[1], loss.ignore_index)
    native = kernels(logits, _single(weight)) if _fits(logits, targets) else None
    if native is not None:
        return native.cross_entropy(logits, targets.contiguous(), _single(weight), *_options(loss))  # type: ignore[no-any-return]
    parts = [_piece(logits[at], targets[at], weight, loss, None)[0] for at in _cut(logits)]
    return torch.cat(parts) if parts else logits.new_empty(0, dtype=accumulation(logits.dtype))


def losses_and_gradient(
    logits: Tensor, targets: Tensor, weight: Tensor | None, loss: Loss, scale: Tensor, into: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The loss of each row, and the gradient of Σ_rows scale · loss.

    Args:
        logits, targets, weight: as for `row_losses`.
        scale: (N,), in float32 or more; the upstream gradient of each row, 0 where it is ignored.
        into: where to write the gradient, which may be logits itself; a new tensor if None.
    """
    check_labels(targets, logits.shape[1], loss.ignore_index)
    native = kernels(logits, _single(weight), scale, into) if _fits(logits, targets) else None
    if native is not None:
        into = torch.empty(logits.shape, dtype=logits.dtype) if into is None else into
        options = (targets.contiguous(), _single(weight), *_options(loss), scale.contiguous())
        return native.cross_entropy_fused(logits, *options, into), into
    if watched():
        losses, gradient = _piece(logits, targets, weight, loss, scale)
        assert gradient is not None
        return losses, gradient.to(logits.dtype) if into is None else into.copy_(gradient)
    into = torch.empty_like(logits) if into is None else into
    losses = torch.empty_like(scale)
    for at in _cut(logits):
        losses[at], gradient = _piece(logits[at], targets[at], weight, loss, scale[at])
        into[at] = gradient  # type: ignore[assignment]  # asked for by scale
    return losses, into


def check_labels(targets: Tensor, classes: int, ignore_index: int) -> None:
    """Raise torch's IndexError for a label out of range, where the values are at hand without waiting for a device."""
    if not targets.is_cpu or watched() or not targets.numel():
        return
    labels = torch.where(targets == ignore_index, 0, targets)
    least, most = (int(bound) for bound in torch.aminmax(labels))
    if least < 0 or most >= classes:
        raise IndexError(f"Target {least if least < 0 else most} is out of bounds.")


def row_scale(
    targets: Tensor, weight: Tensor | None, ignore_index: int, reduction: str, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """The upstream gradient of each row for a loss whose own is 1, and what "mean" divides by.

    That is the sum of the weights of the rows' classes. Where all rows are ignored the mean is 0/0, but no logit has
    any part in it: the gradient is 0, as torch has it.
    """
    valid = targets != ignore_index
    counts = valid.double()
    if weight is not None:
        counts = torch.where(valid, weight[torch.where(valid, targets, 0)].double(), 0)
    total = counts.sum()
    scale = valid.to(dtype)
    return scale / torch.where(total == 0, 1, total).to(dtype) if reduction == "mean" else scale, total


def reduced(losses: Tensor, total: Tensor, reduction: str, dtype: torch.dtype) -> Tensor:
    """The losses of the rows as the caller wants them; summed in float64, so that the number of threads is not seen."""
    if reduction == "none":
        return losses.to(dtype)
    value = losses.sum(dtype=torch.float64)
    return (value / total if reduction == "mean" else value).to(dtype)


def _piece(
    logits: Tensor, targets: Tensor, weight: Tensor | None, loss: Loss, scale: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Losses and gradient of some rows in torch ops: in place where nobody looks on, differentiable where one does."""
    wide, classes = accumulation(logits.dtype), logits.shape[1]
    z = logits.to(wide)
    if loss.softcap:
        z = loss.softcap * torch.tanh(z / loss.softcap)
    valid = targets != loss.ignore_index
    labels = torch.where(valid, targets, 0)[:, None]
    top = z.detach().amax(1, keepdim=True)
    exponentials = torch.exp(z - top) if watched() else torch.sub(z, top).exp_()
    total = exponentials.sum(1, keepdim=True)
    log_total = total.log()
    lse = top + log_total
    weights = None if weight is None else weight.to(wide)
    on_label = (1 - loss.label_smoothing) * (1 if weights is None else weights[labels])
    # Never lse - z: with huge logits nothing of log_total would be left in lse.
    losses = on_label * (top - z.gather(1, labels) + log_total)
    on_all = loss.label_smoothing / classes
    if on_all:
        away = top - z + log_total
        losses = losses + on_all * (away.sum(1, keepdim=True) if weights is None else (away @ weights)[:, None])
    if loss.z_loss:
        losses = losses + loss.z_loss * lse.square()
    losses = torch.where(valid, losses[:, 0], 0)
    if scale is None:
        return losses, None
    scale = scale[:, None]
    sum_of_weights = classes if weights is None else weights.sum()
    factor = scale * (on_label + on_all * sum_of_weights + 2 * loss.z_loss * lse) / total
    into = None if watched() else exponentials
    gradient = torch.mul(exponentials, factor, out=into)
    if on_all:
        gradient = torch.sub(gradient, scale * (on_all if weights is None else on_all * weights), out=into)
    gradient = torch.scatter_add(gradient, 1, labels, -scale * on_label, out=into)
    if loss.softcap:
        gradient = torch.mul(gradient, 1 - (z / loss.softcap).square(), out=into)
    return losses, gradient


def _cut(logits: Tensor) -> list[slice]:
    return [slice(None)] if watched() else list(pieces(*logits.shape))


def _fits(logits: Tensor, targets: Tensor) -> bool:
    """Whether the kernel can read the rows as they lie."""
    return logits.shape[1] > 0 and logits.stride(1) == 1 and targets.is_cpu and targets.dtype == torch.long


def _single(values: Tensor | None) -> Tensor | None:
    return None if values is None else values.float().contiguous()


def _options(loss: Loss) -> tuple[int, float, float, float]:
    return loss.ignore_index, loss.label_smoothing, loss.softcap, loss.z_loss
