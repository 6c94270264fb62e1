"""e3nn: a smooth step for radial bases (https://docs.e3nn.org)."""

import torch
from e3nn.math import soft_unit_step

soft_unit_step(torch.randn(12, requires_grad=True))
