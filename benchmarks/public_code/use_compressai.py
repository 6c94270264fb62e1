"""compressai: bounds and a quantised ReLU of learned image codecs (https://interdigitalinc.github.io/CompressAI)."""

import torch
from compressai.layers import QReLU
from compressai.ops import LowerBound

x = torch.randn(4, 5, requires_grad=True)
LowerBound(0.2)(x)
QReLU.apply((300 * torch.randn(4, 5)).requires_grad_(), 8, 100)
