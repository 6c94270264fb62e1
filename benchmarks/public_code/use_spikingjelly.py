"""spikingjelly: surrogates, quantisers, event-driven neurons (https://github.com/fangwei123456/spikingjelly)."""

import torch
from spikingjelly._ops.surrogate import _surrogate_spike
from spikingjelly.activation_based import lava_exchange, quantize, surrogate
from spikingjelly.activation_based.layer.online_learning import ReplaceforGrad
from spikingjelly.activation_based.model.spike_dhs import dSpike
from spikingjelly.activation_based.neuron import dsr
from spikingjelly.timing_based import functional

x = torch.randn(3, 5, requires_grad=True)
for spike in (
    surrogate.PiecewiseQuadratic,
    surrogate.PiecewiseExp,
    surrogate.Sigmoid,
    surrogate.SoftSign,
    surrogate.SuperSpike,
    surrogate.ATan,
    surrogate.NonzeroSignLogAbs,
    surrogate.Erf,
    surrogate.PiecewiseLeakyReLU,
    surrogate.SquarewaveFourierSeries,
    surrogate.S2NN,
    surrogate.QPseudoSpike,
    surrogate.LeakyKReLU,
    surrogate.FakeNumericalGradient,
    surrogate.LogTailedReLU,
    surrogate.DeterministicPass,
    surrogate.PoissonPass,
    surrogate.Rect,
):
    spike()(x.sigmoid() if spike is surrogate.PoissonPass else x)
dSpike.apply(x, 3.0)
_surrogate_spike(x, 2.0, 1)

quantize.round(x)
quantize.ceil(x)
quantize.floor(x)
quantize.clamp(x, -0.5, 0.5)
quantize.step_quantize(x, 0.25)
quantize.k_bit_quantize(x.sigmoid(), 3)
quantize.multi_level_spike_count(3 * x, 4)

ReplaceforGrad.apply(x, torch.randn(3, 5, requires_grad=True))
sequence = torch.rand(6, 3, requires_grad=True)
dsr.DSRIFNode(T=6)(sequence)
dsr.DSRLIFNode(T=6)(sequence)
decay, scale = torch.tensor(1024.0, requires_grad=True), 64
lava_exchange.LeakyIntegratorStep.apply(x, decay, torch.randn(3, 5, requires_grad=True), scale)

times = torch.rand(12, requires_grad=True)
indices, offsets = torch.randint(0, 4, (12,)), torch.tensor([0, 7, 12])
weight = torch.rand(3, 4, requires_grad=True)
functional.tempotron(times, indices, offsets, weight, 1.0, 0.3, 0.1, 1.0)
functional.srm(times, indices, offsets, weight, 1.0, v_threshold=0.3)
