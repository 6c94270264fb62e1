"""Losses, as torch.nn has them."""

from __future__ import annotations

import torch
from torch import Tensor

from gradsmith.catalog.binary_cross_entropy import binary_cross_entropy_with_logits
from gradsmith.catalog.cross_entropy import cross_entropy
from gradsmith.catalog.huber import huber_loss, smooth_l1_loss
from gradsmith.catalog.kl_div import kl_div


class CrossEntropyLoss(torch.nn.CrossEntropyLoss):
    """`torch.nn.CrossEntropyLoss` on `gradsmith.catalog.cross_entropy`.

    The constructor is inherited: weight, ignore_index, reduction and label_smoothing, and the old size_average and
    reduce, which it turns into a reduction. Set `inplace` to have the logits overwritten with their gradient.

    >>> loss = CrossEntropyLoss(label_smoothing=0.1)
    >>> loss(torch.randn(3, 5, requires_grad=True), torch.tensor([1, 0, 4])).backward()
    """

    inplace = False

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Logits (C,), (N, C) or (N, C, d1, …) and class indices or probabilities -> loss; raises as torch does."""
        options = self.ignore_index, self.reduction, self.label_smoothing, self.inplace
        return cross_entropy(input, target, self.weight, *options)


class HuberLoss(torch.nn.HuberLoss):
    """`torch.nn.HuberLoss` on `gradsmith.catalog.huber_loss`; the constructor is inherited.

    >>> loss = HuberLoss(delta=0.5)
    >>> loss(torch.randn(3, 5, requires_grad=True), torch.randn(3, 5)).backward()
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Two tensors of one shape -> loss."""
        return huber_loss(input, target, self.reduction, self.delta)


class SmoothL1Loss(torch.nn.SmoothL1Loss):
    """`torch.nn.SmoothL1Loss` on `gradsmith.catalog.smooth_l1_loss`; the constructor is inherited.

    >>> loss = SmoothL1Loss(beta=0.5)
    >>> loss(torch.randn(3, 5, requires_grad=True), torch.randn(3, 5)).backward()
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Two tensors of one shape -> loss."""
        return smooth_l1_loss(input, target, self.reduction, self.beta)


class BCEWithLogitsLoss(torch.nn.BCEWithLogitsLoss):
    """`torch.nn.BCEWithLogitsLoss` on `gradsmith.catalog.binary_cross_entropy_with_logits`.

    The constructor is inherited; weight and pos_weight are buffers, as torch has them.

    >>> loss = BCEWithLogitsLoss(pos_weight=torch.tensor([1.0, 3.0]))
    >>> loss(torch.randn(5, 2, requires_grad=True), torch.rand(5, 2)).backward()
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Logits and targets of one shape -> loss. Raises ValueError where the shapes differ, as torch does."""
        return binary_cross_entropy_with_logits(input, target, self.weight, self.reduction, self.pos_weight)


class KLDivLoss(torch.nn.KLDivLoss):
    """`torch.nn.KLDivLoss` on `gradsmith.catalog.kl_div`; the constructor is inherited.

    >>> loss = KLDivLoss(reduction="batchmean")
    >>> loss(torch.randn(3, 5, requires_grad=True).log_softmax(1), torch.rand(3, 5).softmax(1)).backward()
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Logarithms of probabilities, and probabilities (or their logarithms) -> loss."""
        return kl_div(input, target, self.reduction, self.log_target)
