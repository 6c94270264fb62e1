"""`CosineSimilarity`, as torch.nn has it."""

from __future__ import annotations

import torch
from torch import Tensor

from gradsmith.catalog.similarity import cosine_similarity


class CosineSimilarity(torch.nn.CosineSimilarity):
    """`torch.nn.CosineSimilarity` on `gradsmith.catalog.cosine_similarity`; the constructor is inherited.

    >>> cosine = CosineSimilarity(dim=1, eps=1e-6)
    >>> cosine(torch.randn(100, 128), torch.randn(100, 128)).shape
    torch.Size([100])
    """

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        """Two tensors that broadcast to one another -> their common shape without `dim`."""
        return cosine_similarity(x1, x2, self.dim, self.eps)
