"""pytorch_wavelets: wavelet transforms (https://pytorch-wavelets.readthedocs.io)."""

import torch
from pytorch_wavelets import DTCWTForward, DTCWTInverse, DWT1DForward, DWT1DInverse, DWTForward, DWTInverse, ScatLayer

image = torch.randn(1, 2, 8, 8, requires_grad=True)
for mode in ("zero", "symmetric", "periodization"):
    low, high = DWTForward(J=1, wave="db2", mode=mode)(image)
    DWTInverse(wave="db2", mode=mode)((low, high))
signal = torch.randn(1, 2, 12, requires_grad=True)
low, high = DWT1DForward(J=1, wave="db2", mode="zero")(signal)
DWT1DInverse(wave="db2", mode="zero")((low, high))
low, high = DTCWTForward(J=2)(image)
DTCWTInverse()((low, high))
ScatLayer()(image)
