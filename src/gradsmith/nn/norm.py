"""Normalisations, as torch.nn has them."""

from __future__ import annotations

import torch
from torch import Tensor

from gradsmith.catalog.layer_norm import layer_norm
from gradsmith.catalog.rms_norm import rms_norm


class LayerNorm(torch.nn.LayerNorm):
    """`torch.nn.LayerNorm` on `gradsmith.catalog.layer_norm`; constructor and state are inherited.

    >>> norm = LayerNorm(20, bias=False)
    >>> norm(torch.randn(5, 20)).shape
    torch.Size([5, 20])
    """

    def forward(self, input: Tensor) -> Tensor:
        """(*, normalized_shape) -> the same shape. Raises RuntimeError for other shapes, as torch does."""
        return layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)


class RMSNorm(torch.nn.RMSNorm):
    """`torch.nn.RMSNorm` on `gradsmith.catalog.rms_norm`; constructor and state are inherited.

    >>> norm = RMSNorm(20, elementwise_affine=False)
    >>> norm(torch.randn(5, 20)).shape
    torch.Size([5, 20])
    """

    def forward(self, input: Tensor) -> Tensor:
        """(*, normalized_shape) -> the same shape. Raises RuntimeError for other shapes, as torch does."""
        return rms_norm(input, self.normalized_shape, self.weight, self.eps)
