"""pytopk: smoothed top-k losses (https://github.com/plantnet/pytopk)."""

import torch
from pytopk.noised_topk import _NoisedTopK

scores = torch.randn(4, 6, requires_grad=True)
_NoisedTopK.apply(scores, torch.randn(4, 6, 5), 3, 1.0, -1, -1)
