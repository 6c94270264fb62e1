"""pytorch-revgrad: gradient reversal (https://github.com/janfreyberg/pytorch-revgrad)."""

import torch
from pytorch_revgrad import RevGrad

RevGrad(alpha=0.5)(torch.randn(4, 3, requires_grad=True))
