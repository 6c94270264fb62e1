"""revtorch: reversible blocks (https://github.com/RobinBruegger/RevTorch)."""

import torch
from revtorch import ReversibleBlock, ReversibleSequence

half = lambda: torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Tanh())
blocks = torch.nn.ModuleList([ReversibleBlock(half(), half(), split_along_dim=1) for _ in range(2)])
ReversibleSequence(blocks)(torch.randn(4, 6, requires_grad=True))
