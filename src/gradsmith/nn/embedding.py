"""`Embedding`, as torch.nn has it."""

from __future__ import annotations

import torch
from torch import Tensor

from gradsmith.catalog.embedding import embedding


class Embedding(torch.nn.Embedding):
    """`torch.nn.Embedding` on `gradsmith.catalog.embedding`; constructor and state are inherited.

    Two options are no matter of the gradient alone, and with them the forward is torch's own: `max_norm` changes the
    weight in the forward, and `sparse=True` asks for a sparse gradient.

    >>> table = Embedding(10, 3, padding_idx=0)
    >>> table(torch.tensor([[0, 2], [4, 5]])).shape
    torch.Size([2, 2, 3])
    """

    def forward(self, input: Tensor) -> Tensor:
        """Indices of any shape -> (*, embedding_dim). Raises IndexError for one out of range."""
        if self.max_norm is not None or self.sparse:
            return super().forward(input)
        return embedding(input, self.weight, self.padding_idx, scale_grad_by_freq=self.scale_grad_by_freq)
