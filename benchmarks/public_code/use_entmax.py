"""entmax: projections onto the simplex, and their losses (https://github.com/deep-spin/entmax)."""

import entmax
import torch

scores = torch.randn(4, 7, requires_grad=True)
target = torch.randint(0, 7, (4,))

entmax.sparsemax(scores, dim=-1)
entmax.sparsemax(scores, dim=-1, k=3)
entmax.entmax15(scores, dim=-1)
entmax.entmax_bisect(scores, alpha=1.3)
entmax.entmax_bisect(scores, alpha=torch.tensor(1.4, requires_grad=True))
entmax.sparsemax_bisect(scores)
entmax.normmax_bisect(scores, alpha=2)
entmax.budget_bisect(scores, budget=2)
for loss in (
    entmax.sparsemax_loss,
    entmax.entmax15_loss,
    entmax.sparsemax_bisect_loss,
    entmax.entmax_bisect_loss,
    entmax.normmax_bisect_loss,
):
    loss(scores, target).sum().backward()
