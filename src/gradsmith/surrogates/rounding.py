"""Rounding, whose derivative is zero wherever there is one, with the gradient of the identity.

Source: Bengio, Léonard and Courville 2013, https://arxiv.org/abs/1308.3432.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gradsmith.surrogates.straight_through import straight_through


@straight_through
def round_ste(x: Tensor) -> Tensor:
    """The nearest integer, halves to the even one, as torch.round; `grad` passes unchanged, and nothing is saved."""
    return torch.round(x)


@straight_through
def floor_ste(x: Tensor) -> Tensor:
    """The next integer below, as torch.floor; `grad` passes unchanged, and nothing is saved."""
    return torch.floor(x)


@straight_through
def ceil_ste(x: Tensor) -> Tensor:
    """The next integer above, as torch.ceil; `grad` passes unchanged, and nothing is saved."""
    return torch.ceil(x)


@straight_through
def trunc_ste(x: Tensor) -> Tensor:
    """The next integer towards zero, as torch.trunc; `grad` passes unchanged, and nothing is saved."""
    return torch.trunc(x)
