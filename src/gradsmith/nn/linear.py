"""`Linear` and `Bilinear`, as torch.nn has them."""

from __future__ import annotations

import torch
from torch import Tensor

from gradsmith.catalog.bilinear import bilinear
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


class Bilinear(torch.nn.Bilinear):
    """`torch.nn.Bilinear` on `gradsmith.catalog.bilinear`; constructor and state are inherited.

    >>> layer = Bilinear(20, 30, 40)
    >>> layer(torch.randn(128, 20), torch.randn(128, 30)).shape
    torch.Size([128, 40])
    """

    def forward(self, input1: Tensor, input2: Tensor) -> Tensor:
        """(*, in1_features) and (*, in2_features) -> (*, out_features). Raises RuntimeError for other shapes."""
        return bilinear(input1, input2, self.weight, self.bias)
