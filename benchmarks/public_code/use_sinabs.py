"""sinabs: spiking layers (https://sinabs.readthedocs.io)."""

import torch
from sinabs.activation import MaxSpike, MultiSpike, PeriodicExponential, Quantize, SingleExponential, SingleSpike
from sinabs.activation.quantize import StochasticRounding

potential = 2 * torch.randn(4, 5, requires_grad=True)
MultiSpike.apply(potential, 1.0, SingleExponential())
MultiSpike.apply(potential, 1.0, PeriodicExponential())
SingleSpike.apply(potential, 1.0, SingleExponential())
MaxSpike(3).apply(potential, 1.0, SingleExponential())
Quantize.apply(potential)
StochasticRounding.apply(potential)
