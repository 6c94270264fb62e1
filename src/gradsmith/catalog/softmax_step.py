"""The step that all losses over a softmax share, in torch ops: rows of logits in, their losses and gradient out.

With capped logits z = cap tanh(x / cap) (z = x where there is no cap), lse = log Σ_k exp z_k, label y, class weights w
and label smoothing ε over C classes, the loss of a row is

    l = (1-ε) w_y (lse - z_y) + ε/C Σ_c w_c (lse - z_c) + ζ lse²

and from ∂lse/∂z_k = softmax(z)_k = p_k follows

    ∂l/∂x_k = (A p_k - (1-ε) w_y 1[k = y] - ε/C w_k) (1 - (z_k/cap)²),    A = (1-ε) w_y + ε/C Σ_c w_c + 2 ζ lse

The gradient of a row without any finite logit is 0, where torch has NaN: no logit can change it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Loss:
    """What belongs to the loss and not to a row."""

    ignore_index: int = -100
    label_smoothing: float = 0.0
    softcap: float = 0.0  # 0: no cap
    z_loss: float = 0.0


@dataclass(frozen=True)
class Rows:
    """What belongs to the rows beside their logits; the tensors are columns, or a row for the classes."""

    labels: Tensor  # (N, 1), 0 where a row is ignored
    valid: Tensor  # (N, 1)
    on_label: Tensor  # (N, 1) or (1, 1): the share of the loss that is the label's alone
    on_all: float  # and that of each class, before its weight
    weights: Tensor | None  # (C,)
    classes: int
    z_loss: float

    @staticmethod
    def of(targets: Tensor, weight: Tensor | None, loss: Loss, classes: int, wide: torch.dtype) -> Rows:
        valid = (targets != loss.ignore_index)[:, None]
        labels = torch.where(valid, targets[:, None], 0)
        weights = None if weight is None else weight.to(wide)
        on_label = (1 - loss.label_smoothing) * (
            valid.new_ones(1, 1, dtype=wide) if weights is None else weights[labels]
        )
        return Rows(labels, valid, on_label, loss.label_smoothing / classes, weights, classes, loss.z_loss)

    @property
    def counts_lse(self) -> bool:
        """Whether the log-sum-exp has a part of its own in the loss."""
        return bool(self.on_all or self.z_loss)

    def losses(self, lse: Tensor, log_p: Tensor, weighted: Tensor | None) -> Tensor:
        """The loss of each row from lse, log p of the label, and Σ_c w_c z_c where all classes have a share."""
        losses = -log_p * self.on_label
        if weighted is not None:
            losses = losses + self.on_all * (lse * self.total_weight - weighted)
        if self.z_loss:
            losses = losses + self.z_loss * lse.square()
        return torch.where(self.valid, losses, 0)[:, 0]

    def weighted(self, z: Tensor) -> Tensor | None:
        """Σ_c w_c z_c of each row; None where nothing is smoothed."""
        if not self.on_all:
            return None
        wide = torch.promote_types(z.dtype, torch.float32)
        return (z.sum(1) if self.weights is None else z @ self.weights.to(z.dtype)).to(wide)[:, None]

    @property
    def total_weight(self) -> Tensor | int:
        return self.classes if self.weights is None else self.weights.sum()

    def factor(self, lse: Tensor) -> Tensor:
        """A, by which the softmax counts in the gradient."""
        factor = self.on_label + self.on_all * self.total_weight if self.on_all else self.on_label
        return factor + 2 * self.z_loss * lse if self.z_loss else factor

    def in_all(self, like: Tensor) -> Tensor:
        """What the gradient of each class loses to smoothing: of all classes, or one number."""
        return self.on_all * (like.new_ones(1) if self.weights is None else self.weights)


def losses_alone(z: Tensor, rows: Rows, buffer: Tensor) -> Tensor:
    """The loss of each row of capped logits; `buffer` of their shape is overwritten, and may be z."""
    weighted = rows.weighted(z)
    top = z.amax(1, keepdim=True) if rows.counts_lse else None
    all_log_p = torch.log_softmax(z, 1, out=buffer)
    log_p = all_log_p.gather(1, rows.labels)
    lse = log_p if top is None else top - all_log_p.amax(1, keepdim=True)  # or not asked for
    return rows.losses(lse, log_p, weighted)


def losses_and_gradient_into(z: Tensor, rows: Rows, scale: Tensor, into: Tensor) -> Tensor:
    """The loss of each row, and scale times its gradient by the capped logits z in `into`, which may be z itself.

    Whole tensors at each operation, three passes over them in all: with another busy process on the machine, each of
    many small operations would wait for a thread that is not running. In bfloat16 only what stays there is rounded.
    """
    scale = scale[:, None]
    at_label, weighted = z.gather(1, rows.labels).to(scale.dtype), rows.weighted(z)
    top = z.amax(1, keepdim=True).to(scale.dtype)
    p = torch.softmax(z, 1, out=into)
    p_label = _at_label(p, rows.labels, scale.dtype)
    lse, log_p = _logarithms(p, p_label, at_label, top)
    factor = rows.factor(lse)
    on_label = factor * p_label - rows.on_label
    live = rows.valid & (scale != 0) & (top != -torch.inf)
    _multiply(p, (factor * scale)[live], factor * scale)
    if rows.on_all:
        taken = rows.in_all(scale)
        on_label = on_label - (taken[rows.labels] if len(taken) > 1 else taken)
        p.addr_(scale[:, 0].to(p.dtype), taken.expand(rows.classes).to(p.dtype), alpha=-1)
    _put(p, rows.labels, (on_label * scale).to(p.dtype)[:, 0])
    if not live.all():
        p.index_fill_(0, (~live)[:, 0].nonzero()[:, 0], 0)
    return rows.losses(lse, log_p, weighted)


def _at_label(p: Tensor, labels: Tensor, wide: torch.dtype) -> Tensor:
    """The probability of the label. Where p is rounded the one of a large probability is 1 less all the others."""
    p_label = p.gather(1, labels).to(wide)
    if p.dtype == wide:
        return p_label
    rest = _put(p, labels, p.new_zeros(())).sum(1, keepdim=True)  # the label's place is written to again at the end
    return torch.where(p_label > 0.5, 1 - rest.to(wide), p_label)


def _put(p: Tensor, labels: Tensor, values: Tensor) -> Tensor:
    """Write one value of each row in place: of 16 bits, scatter_ would copy all of them to float32 and back."""
    return p.index_put_((torch.arange(len(p), device=p.device), labels[:, 0]), values)


def _logarithms(p: Tensor, p_label: Tensor, at_label: Tensor, top: Tensor) -> tuple[Tensor, Tensor]:
    """lse and log p of the label: by the largest logit, where the label's probability is too small for the dtype."""
    log_p = p_label.log()
    lse = at_label - log_p
    small = ~(p_label > 1e-30)[:, 0]
    if small.any():
        lse[small] = top[small] - p[small].amax(1, keepdim=True).to(lse.dtype).log()
        log_p[small] = at_label[small] - lse[small]
    return lse, log_p


def _multiply(p: Tensor, those_that_count: Tensor, factors: Tensor) -> None:
    """Rows times their factors, in place: by one number where that will do, which is quicker and not rounded."""
    if len(those_that_count) and bool((those_that_count == those_that_count[0]).all()):
        p.mul_(float(those_that_count[0]))
    else:
        p.mul_(factors.to(p.dtype))


def differentiable(z: Tensor, rows: Rows, scale: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Losses, and the gradient by z if there is a scale, out of place: for derivatives of either, and for tracing."""
    top = z.detach().amax(1, keepdim=True)
    exponentials = torch.exp(z - top)
    total = exponentials.sum(1, keepdim=True)
    lse = total.log() + top
    losses = rows.losses(lse, z.gather(1, rows.labels) - lse, rows.weighted(z))
    if scale is None:
        return losses, None
    gradient = exponentials * (rows.factor(lse) / total)
    if rows.on_all:
        gradient = gradient - rows.in_all(scale)
    gradient = gradient.scatter_add(1, rows.labels, -rows.on_label.expand_as(rows.labels))
    live = rows.valid & (top != -torch.inf)
    return losses, torch.where(live, gradient * scale[:, None], 0)
