"""torch_geometric: a cross entropy over edges (https://pytorch-geometric.readthedocs.io)."""

import torch
from torch_geometric.utils.cross_entropy import sparse_cross_entropy

scores = torch.randn(4, 6, requires_grad=True)
edges = torch.tensor([[0, 0, 1, 2, 3], [1, 2, 5, 0, 4]])
sparse_cross_entropy(scores, edges)
sparse_cross_entropy(scores, edges, torch.tensor([1.0, 0.5, 2.0, 1.0, -0.3]))
