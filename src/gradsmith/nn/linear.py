"""`Linear`, as torch.nn has it."""

from __future__ import annotations

import torch
from torch import Tensor

from gradsmith.catalog.linear import linear


class Linear(torch.nn.Linear):
    """`torch.nn.Linear` on `gradsmith.catalog.linear`.

    Constructor, initialisation, parameters, state dict and representation are inherited, so each stands in for the
    other. What differs is the forward: the gradients come from formulas that can be read.

    >>> layer = Linear(20, 30, bias=False)
    >>> layer(torch.randn(128, 20)).shape
    torch.Size([128, 30])
    """

    def forward(self, input: Tensor) -> Tensor:
        """(*, in_features) -> (*, out_features). Raises RuntimeError for other shapes, as torch does."""
        return linear(input, self.weight, self.bias)
