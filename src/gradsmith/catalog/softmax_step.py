"""The step that all losses over a softmax share, in torch ops: rows of logits in, their losses and gradient out.

With capped logits z = cap tanh(x / cap) (z = x where there is no cap), lse = log Σ_k exp z_k, label y, class weights w
and label smoothing ε over C classes, the loss of a row is

    l = (1-ε) w_y (lse - z_y) + ε/C Σ_c w_c (lse - z_c) + ζ lse²

and from ∂lse/∂z_k = softmax(z)_k = p_k follows

    ∂l/∂x_k = (A p_k - (1-ε) w_y 1[k = y] - ε/C w_k) (1 - (z_k/cap)²),    A = (1-ε) w_y + ε/C Σ_c w_c + 2 ζ lse

The gradient of a row without any finite logit is 0, where torch has NaN: no logit can change it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from gradsmith.catalog.rows import Block


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

    def at(self, some: Block) -> Rows:
        """Some of the rows."""
        on_label = self.on_label[some] if len(self.on_label) == len(self.labels) else self.on_label
        return replace(self, labels=self.labels[some], valid=self.valid[some], on_label=on_label)

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

    @property
    def fixed_factor(self) -> Tensor:
        """A without z_loss's part."""
        return self.on_label + self.on_all * self.total_weight if self.on_all else self.on_label

    def factor(self, lse: Tensor) -> Tensor:
        """A, by which the softmax counts in the gradient."""
        return self.fixed_factor + 2 * self.z_loss * lse if self.z_loss else self.fixed_factor

    def in_all(self, like: Tensor) -> Tensor:
        """What the gradient of each class loses to smoothing: of all classes, or one number."""
        return self.on_all * (like.new_ones(1) if self.weights is None else self.weights)


def losses_alone(z: Tensor, rows: Rows) -> Tensor:
    """The loss of each row of capped logits."""
    weighted = rows.weighted(z)
    all_log_p = torch.log_softmax(z, 1)
    log_p = all_log_p.gather(1, rows.labels)
    lse = z.amax(1, keepdim=True) - all_log_p.amax(1, keepdim=True) if rows.counts_lse else log_p
    return rows.losses(lse, log_p, weighted)


class Columns(NamedTuple):
    """What is left of the logits of rows when the softmax was written over them, each (n, 1)."""

    lse: Tensor
    log_p: Tensor  # of the label
    p_label: Tensor
    top: Tensor  # the largest logit
    weighted: Tensor | None  # see Rows.weighted


def joined(parts: Sequence[Columns]) -> Columns:
    """Those of all rows from those of some."""
    lse, log_p, p_label, top, weighted = zip(*parts, strict=True)
    together = None if weighted[0] is None else torch.cat(weighted)
    return Columns(torch.cat(lse), torch.cat(log_p), torch.cat(p_label), torch.cat(top), together)


def losses_and_gradient_into(z: Tensor, rows: Rows, scale: Tensor, into: Tensor) -> Tensor:
    """The loss of each row, and scale times its gradient by the capped logits z in `into`, which may be z itself.

    In bfloat16 only what stays there is rounded. Three steps: `common_factor`, `soften`, which is the work and may be
    done in pieces, and `finish`.
    """
    return finish(into, soften(z, rows, scale, common_factor(rows, scale), into), rows, scale)


def common_factor(rows: Rows, scale: Tensor) -> float | None:
    """By what the softmax counts in the gradients of all rows that count; None where each has a factor of its own.

    To multiply by one number is quicker, and its factor is not rounded.
    """
    if rows.z_loss:
        return None
    those = (rows.fixed_factor * scale[:, None])[rows.valid & (scale[:, None] != 0)]
    return float(those[0]) if len(those) and bool((those == those[0]).all()) else None


def soften(z: Tensor, rows: Rows, scale: Tensor, factor: float | None, into: Tensor) -> Columns:
    """The softmax times its factor, in `into`; what a gradient takes off it for labels and smoothing is left out."""
    z_label, top, weighted = z.gather(1, rows.labels).to(scale.dtype), _largest(z).to(scale.dtype), rows.weighted(z)
    p = torch.softmax(z, 1, out=into)
    p_label = _at_label(p, rows.labels, scale.dtype)
    lse, log_p = _logarithms(p, p_label, z_label, top)
    p.mul_((rows.factor(lse) * scale[:, None]).to(p.dtype) if factor is None else factor)
    return Columns(lse, log_p, p_label, top, weighted)


def finish(p: Tensor, columns: Columns, rows: Rows, scale: Tensor) -> Tensor:
    """The losses; and p, as `soften` left it, is made the gradient."""
    scale = scale[:, None]
    on_label = rows.factor(columns.lse) * columns.p_label - rows.on_label
    if rows.on_all:
        taken = rows.in_all(scale)
        on_label = on_label - (taken[rows.labels] if len(taken) > 1 else taken)
        p.addr_(scale[:, 0].to(p.dtype), taken.expand(rows.classes).to(p.dtype), alpha=-1)
    _put(p, rows.labels, (on_label * scale).to(p.dtype)[:, 0])
    live = rows.valid & (scale != 0) & (columns.top != -torch.inf)
    if not live.all():
        p.index_fill_(0, (~live)[:, 0].nonzero()[:, 0], 0)
    return rows.losses(columns.lse, columns.log_p, columns.weighted)


def _largest(z: Tensor) -> Tensor:
    """The largest logit of each row.

    Of 16 bits by their bits as integers, which have the order of the numbers they stand for, or where all are negative
    the reverse: a tenth of the time of aten's.
    """
    if z.dtype.itemsize > 2 or not z.is_cpu:
        return z.amax(1, keepdim=True)
    bits = z.view(torch.int16)
    top = bits.amax(1, keepdim=True)
    negative = (top < 0)[:, 0]
    if negative.any():
        top[negative] = bits[negative].amin(1, keepdim=True)
    return top.view(z.dtype)


def _at_label(p: Tensor, labels: Tensor, wide: torch.dtype) -> Tensor:
    """The probability of the label. Where p is rounded the one of a large probability is 1 less all the others."""
    p_label = p.gather(1, labels).to(wide)
    if p.dtype != wide:
        likely = (p_label > 0.5)[:, 0]
        if likely.any():
            rest = _put(p[likely], labels[likely], p.new_zeros(())).sum(1, keepdim=True)
            p_label[likely] = 1 - rest.to(wide)
    return p_label


def _put(p: Tensor, labels: Tensor, values: Tensor) -> Tensor:
    """Write one value of each row in place: of 16 bits, scatter_ would copy all of them to float32 and back."""
    return p.index_put_((torch.arange(len(p), device=p.device), labels[:, 0]), values)


def _logarithms(p: Tensor, p_label: Tensor, z_label: Tensor, top: Tensor) -> tuple[Tensor, Tensor]:
    """lse and log p of the label: by the largest logit, where the label's probability is too small for the dtype."""
    log_p = p_label.log()
    lse = z_label - log_p
    small = ~(p_label > 1e-30)[:, 0]
    if small.any():
        lse[small] = top[small] - p[small].amax(1, keepdim=True).to(lse.dtype).log()
        log_p[small] = z_label[small] - lse[small]
    return lse, log_p


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
