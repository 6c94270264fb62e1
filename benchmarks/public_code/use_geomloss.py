"""geomloss: kernel norms between samples (https://www.kernel-operations.io/geomloss)."""

import torch
from geomloss._legacy.kernel_samples import double_grad

double_grad(torch.randn(5, 3, requires_grad=True))
