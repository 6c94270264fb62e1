"""reinmax: discrete samples with a second-order surrogate (https://github.com/microsoft/ReinMax)."""

import torch
from reinmax import reinmax

reinmax(torch.randn(4, 6, requires_grad=True), 1.3)
