"""qpth: quadratic programs as layers (https://locuslab.github.io/qpth)."""

import torch
from qpth.qp import QPFunction

size = 3
q = torch.eye(size, dtype=torch.float64).requires_grad_()
p = torch.randn(1, size, dtype=torch.float64, requires_grad=True)
g = torch.cat([torch.eye(size), -torch.eye(size)]).double().requires_grad_()
h = torch.full((2 * size,), 0.7, dtype=torch.float64, requires_grad=True)
QPFunction(verbose=-1)(q, p, g, h, torch.tensor([], dtype=torch.float64), torch.tensor([], dtype=torch.float64))
