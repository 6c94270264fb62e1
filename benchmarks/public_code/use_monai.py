"""monai: guided backpropagation (https://docs.monai.io)."""

import torch
from monai.visualize.gradient_based import _AutoGradReLU

_AutoGradReLU.apply(torch.randn(4, 5, requires_grad=True))
