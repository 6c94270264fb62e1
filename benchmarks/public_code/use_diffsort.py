"""diffsort: differentiable sorting networks (https://github.com/Felix-Petersen/diffsort)."""

import torch
from diffsort.functional import NormalCDF

NormalCDF.apply(torch.randn(4, 5, requires_grad=True), 0.7)
