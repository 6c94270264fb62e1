"""Losses, as torch.nn has them."""

from __future__ import annotations

import torch
from torch import Tensor

from gradsmith.catalog.cross_entropy import cross_entropy


class CrossEntropyLoss(torch.nn.CrossEntropyLoss):
    """`torch.nn.CrossEntropyLoss` on `gradsmith.catalog.cross_entropy`.

    The constructor is inherited: weight, ignore_index, reduction and label_smoothing, and the old size_average and
    reduce, which it turns into a reduction.

    >>> loss = CrossEntropyLoss(label_smoothing=0.1)
    >>> loss(torch.randn(3, 5, requires_grad=True), torch.tensor([1, 0, 4])).backward()
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Logits (C,), (N, C) or (N, C, d1, …) and class indices or probabilities -> loss; raises as torch does."""
        return cross_entropy(input, target, self.weight, self.ignore_index, self.reduction, self.label_smoothing)
