"""monai: an activation that saves memory, guided backpropagation (https://docs.monai.io)."""

import torch
from monai.networks.blocks import MemoryEfficientSwish
from monai.visualize.gradient_based import _AutoGradReLU

x = torch.randn(4, 5, requires_grad=True)
MemoryEfficientSwish()(x)
_AutoGradReLU.apply(x)
