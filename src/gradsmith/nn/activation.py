"""Activations, as torch.nn has them."""

from __future__ import annotations

import torch
from torch import Tensor

from gradsmith.catalog.activations import gelu, silu


class GELU(torch.nn.GELU):
    """`torch.nn.GELU` on `gradsmith.catalog.gelu`, whose output `gs.recompute_saves()` need not keep.

    >>> GELU("tanh")(torch.tensor([1.0]))
    tensor([0.8412])
    """

    def forward(self, input: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        return gelu(input, self.approximate)


class SiLU(torch.nn.SiLU):
    """`torch.nn.SiLU` on `gradsmith.catalog.silu`, whose output `gs.recompute_saves()` need not keep.

    With `inplace=True`, which overwrites the input, the forward is torch's own.

    >>> SiLU()(torch.tensor([1.0]))
    tensor([0.7311])
    """

    def forward(self, input: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        return super().forward(input) if self.inplace else silu(input)
