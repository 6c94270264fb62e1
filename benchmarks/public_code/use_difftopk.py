"""difftopk: differentiable top-k (https://github.com/Felix-Petersen/difftopk)."""

import torch
from difftopk.functional import NormalCDF

NormalCDF.apply(torch.randn(4, 5, requires_grad=True), 0.7)
