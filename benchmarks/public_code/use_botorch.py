"""botorch: straight-through rounding of discrete parameters (https://botorch.org)."""

import torch
from botorch.utils.rounding import OneHotArgmaxSTE, RoundSTE

x = torch.randn(4, 5, requires_grad=True)
RoundSTE.apply(x)
OneHotArgmaxSTE.apply(x)
