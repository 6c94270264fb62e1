"""torchaudio: filters, and a gradient that is scaled (https://docs.pytorch.org/audio)."""

import torch
from torchaudio import functional
from torchaudio.models.wav2vec2.components import GradMultiply

wave = torch.randn(2, 20, dtype=torch.float64).requires_grad_()
a = torch.tensor([1.0, 0.4, 0.1], dtype=torch.float64, requires_grad=True)
b = torch.tensor([0.3, 0.2, 0.5], dtype=torch.float64, requires_grad=True)
functional.lfilter(wave, a, b, clamp=False)
GradMultiply.apply(torch.randn(3, 4, requires_grad=True), 0.1)
