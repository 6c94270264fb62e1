"""norse: spiking neurons by surrogates and adjoints (https://github.com/norse/norse)."""

import torch
from norse.torch.functional import threshold
from norse.torch.functional.superspike import super_fn

voltage = torch.randn(3, 5, requires_grad=True)
for method in ("super", "triangle", "tanh", "circ", "heavi_erfc"):
    threshold.threshold(voltage, method, 2.0)
threshold.logistic_fn(voltage, 2.0)
threshold.circ_dist_fn(voltage, 2.0)
super_fn(voltage, torch.as_tensor(100.0))
