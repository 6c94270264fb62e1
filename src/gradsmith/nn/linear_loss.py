"""The last layer of a classifier and its loss, as one module."""

from __future__ import annotations

import torch
from torch import Tensor

from gradsmith.catalog.linear_cross_entropy import linear_cross_entropy
from gradsmith.nn.linear import Linear


class LinearCrossEntropyLoss(torch.nn.Module):
    """`torch.nn.LinearCrossEntropyLoss` on `gradsmith.catalog.linear_cross_entropy`, which never holds the logits.

    Parameters and state dict are those of torch's module (new in torch 2.13): `linear.weight`, `linear.bias`, and
    `weight` where the classes have one. Its `out_features`, for losses of several dimensions, and class probabilities
    as targets are not here.

    Args:
        in_features: H, the size of the last dimension of the input.
        num_classes: C.
        bias: whether the layer has one.
        weight: (C,), a weight per class, or None.
        reduction, ignore_index, label_smoothing, softcap, z_loss, memory, accumulate, chunk: see the function.

    With `loss.linear.weight = embedding.weight` the weights are tied.

    >>> loss = LinearCrossEntropyLoss(16, 1000)
    >>> loss(torch.randn(3, 5, 16), torch.randint(0, 1000, (3, 5))).backward()
    """

    weight: Tensor | None

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        bias: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        reduction: str = "mean",
        weight: Tensor | None = None,
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
        softcap: float = 0.0,
        z_loss: float = 0.0,
        memory: str = "auto",
        accumulate: torch.dtype | None = None,
        chunk: int | None = None,
    ) -> None:
        super().__init__()
        self.linear = Linear(in_features, num_classes, bias=bias, device=device, dtype=dtype)
        self.register_buffer("weight", weight)
        self.reduction, self.ignore_index, self.label_smoothing = reduction, ignore_index, label_smoothing
        self.softcap, self.z_loss = softcap, z_loss
        self.memory, self.accumulate, self.chunk = memory, accumulate, chunk

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """(*, in_features) and class indices (*) -> loss. Raises CallError for other shapes."""
        return linear_cross_entropy(
            input,
            self.linear.weight,
            target,
            linear_bias=self.linear.bias,
            weight=self.weight,
            reduction=self.reduction,
            ignore_index=self.ignore_index,
            label_smoothing=self.label_smoothing,
            softcap=self.softcap,
            z_loss=self.z_loss,
            memory=self.memory,
            accumulate=self.accumulate,
            chunk=self.chunk,
        )

    def extra_repr(self) -> str:
        return f"reduction={self.reduction!r}, ignore_index={self.ignore_index}, memory={self.memory!r}"
