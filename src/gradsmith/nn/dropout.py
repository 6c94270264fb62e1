"""`Dropout`, as torch.nn has it."""

from __future__ import annotations

import torch
from torch import Tensor

from gradsmith.catalog.dropout import dropout


class Dropout(torch.nn.Dropout):
    """`torch.nn.Dropout` on `gradsmith.catalog.dropout`, whose mask takes a bit an element, or none at all.

    The mask need not be the one that torch draws from the same seed. With `inplace=True`, which overwrites the input,
    the forward is torch's own.

    >>> drop = Dropout(0.5)
    >>> drop.eval()(torch.ones(3))
    tensor([1., 1., 1.])
    """

    def forward(self, input: Tensor) -> Tensor:
        """Any shape -> the same shape; in evaluation, input itself."""
        if self.inplace:
            return super().forward(input)
        return dropout(input, self.p) if self.training else input
