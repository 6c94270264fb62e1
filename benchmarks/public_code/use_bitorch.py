"""bitorch: binary networks (https://bitorch.readthedocs.io)."""

import torch
from bitorch.layers.pact import PactActFn
from bitorch.layers.qactivation import GradientCancellation
from bitorch.quantizations import approx_sign, dorefa, progressive_sign, sign, ste_heaviside, swish_sign

x = torch.randn(4, 5, requires_grad=True)
PactActFn.apply(x, torch.nn.Parameter(torch.tensor([0.8])), 3)
GradientCancellation.apply(x, 1.0)
progressive_sign.ProgressiveSignFunctionTrain.apply(x, 0.5)
dorefa.WeightDoReFaFunction.apply(x, 3)
dorefa.InputDoReFaFunction.apply(x, 3)
sign.SignFunction.apply(x)
ste_heaviside.SteHeavisideFunction.apply(x)
swish_sign.SwishSignFunction.apply(x, 5.0)
approx_sign.ApproxSignFunction.apply(x)
