"""Normalisations, as torch.nn has them."""

from __future__ import annotations

import torch
from torch import Tensor

from gradsmith.catalog.group_norm import group_norm
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


class GroupNorm(torch.nn.GroupNorm):
    """`torch.nn.GroupNorm` on `gradsmith.catalog.group_norm`; constructor and state are inherited.

    >>> norm = GroupNorm(3, 6)
    >>> norm(torch.randn(20, 6, 10, 10)).shape
    torch.Size([20, 6, 10, 10])
    """

    def forward(self, input: Tensor) -> Tensor:
        """(N, num_channels, *) -> the same shape. Raises RuntimeError for other shapes, as torch does."""
        return group_norm(input, self.num_groups, self.weight, self.bias, self.eps)
