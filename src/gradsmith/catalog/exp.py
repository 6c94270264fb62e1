"""The exponential: the one function whose derivative is its output."""

from __future__ import annotations

import torch
from torch import Tensor

from gradsmith.define.op import op


@op(x=lambda grad, out: grad * out.conj())
def exp(x: Tensor) -> Tensor:
    """e^x, element by element, with the gradient `grad * exp(x)`.

    d/dx e^x = e^x, which is the output: it alone is saved, and x may be freed. The conjugate belongs to torch's
    convention for complex arguments and costs nothing for real ones.

    Args:
        x: any shape; any floating-point or complex dtype. Integers give the default dtype and have no gradient.

    Returns:
        A tensor of the shape of x.

    Saves: the output. Source: the rule for `exp` in PyTorch's derivatives.yaml (`grad * result.conj()`).

    >>> x = torch.tensor([0.0, 1.0], requires_grad=True)
    >>> torch.autograd.grad(exp(x).sum(), x)
    (tensor([1.0000, 2.7183]),)
    """
    return torch.exp(x)
