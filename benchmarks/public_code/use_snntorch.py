"""snnTorch: surrogate gradients and losses of spiking networks (https://github.com/jeshraghian/snntorch)."""

import contextlib

import torch
from snntorch import surrogate

potential = torch.randn(3, 5, requires_grad=True)
for spike in (
    surrogate.straight_through_estimator(),
    surrogate.triangular(),
    surrogate.fast_sigmoid(slope=25),
    surrogate.atan(alpha=2.0),
    surrogate.heaviside(),
    surrogate.sigmoid(slope=25),
    surrogate.spike_rate_escape(beta=1, slope=25),
    surrogate.SSO(),
    surrogate.SFS(slope=25, B=1),
    surrogate.custom_surrogate(lambda x, grad, spikes: grad / (1 + 10 * x.abs()) ** 2),
):
    spike(potential)
surrogate.LeakySpikeOperator.apply(potential, 0.1)
with contextlib.suppress(TypeError):  # snnTorch 1.0.0: LSO applies another Function than its own
    surrogate.LSO(slope=0.1)(potential)
