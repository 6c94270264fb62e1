"""sparsemax: the projection onto the simplex (https://github.com/KrisKorrel/sparsemax-pytorch)."""

import torch
from sparsemax import Sparsemax

Sparsemax(dim=-1)(torch.randn(6, 10, requires_grad=True))
Sparsemax(dim=1)(torch.randn(2, 5, 3, requires_grad=True))
