"""brevitas: straight-through estimators of its quantisers (https://github.com/Xilinx/brevitas)."""

import torch
from brevitas.core.function_wrapper.stochastic_round import stochastic_round_ste_fn
from brevitas.ops import autograd_ste_ops as ops

x = torch.randn(3, 5, requires_grad=True)
low, high = torch.full((3, 5), -0.5), torch.full((3, 5), 0.5)
ops.ScalarClampSteFn.apply(x, -0.5, 0.5)
ops.ScalarClampMinSteFn.apply(x, -0.5)
ops.TensorClampSteFn.apply(x, low, high)
ops.InplaceTensorClampSteFn.apply(x * 1, low, high)
for function in (
    ops.RoundToZeroSteFn,
    ops.DPURoundSteFn,
    ops.CeilSteFn,
    ops.FloorSteFn,
    ops.BinarySignSteFn,
    ops.TernarySignSteFn,
    ops.RoundSteFn,
    ops.AbsBinarySignGradFn,
):
    function.apply(x)
stochastic_round_ste_fn(torch.Generator().manual_seed(0))(x)
