"""magic-clamp: clamps whose gradient goes on where a descent step leads back (https://pypi.org/project/magic-clamp)."""

import torch
from magic_clamp.autograd import ClampWithConditionalSTEFunction, ConstraintWithHyperPGDFunction

x = torch.randn(4, 5, requires_grad=True)
ClampWithConditionalSTEFunction.apply(x, -0.5, 0.5, False)
ConstraintWithHyperPGDFunction.apply(x, torch.nn.functional.normalize, False)
