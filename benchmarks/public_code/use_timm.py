"""timm: activations that save memory (https://huggingface.co/docs/timm)."""

import torch
from timm.layers import activations_me as me

x = (3 * torch.randn(4, 6)).requires_grad_()
for activation in (me.swish_me, me.mish_me, me.hard_sigmoid_me, me.hard_swish_me, me.hard_mish_me):
    activation(x)
