"""The sign, for binary and ternary networks, with the gradient of hardtanh."""

from __future__ import annotations

import torch
from torch import Tensor

from gradsmith.surrogates.straight_through import straight_through


@straight_through(mask="hardtanh")
def sign_ste(x: Tensor, ternary: bool = False) -> Tensor:
    """+1 or -1 by the sign of x; the gradient is `grad` where abs(x) <= 1 and 0 elsewhere.

    Beyond 1 an activation would have to move far to change its sign, so the gradient is cancelled there. For the plain
    straight-through estimator write `straight_through(torch.sign)`.

    Args:
        x: any shape, a floating-point dtype.
        ternary: sign(0) = 0, as torch.sign; otherwise sign(0) = sign(-0.0) = +1.

    Returns:
        A tensor of the shape and dtype of x. NaN gives -1, and 0 where ternary.

    Saves: x. Source: Courbariaux et al. 2016, https://arxiv.org/abs/1602.02830, equation 4.

    >>> x = torch.tensor([-2.0, -0.5, 0.0, 3.0], requires_grad=True)
    >>> sign_ste(x).detach(), torch.autograd.grad(sign_ste(x).sum(), x)[0]
    (tensor([-1., -1.,  1.,  1.]), tensor([0., 1., 1., 0.]))
    """
    return torch.sign(x) if ternary else (x >= 0).to(x.dtype) * 2 - 1
