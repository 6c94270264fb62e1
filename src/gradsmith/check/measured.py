"""What a check measured that is no finding: for the person who reads, and drawn in the HTML report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Taylor:
    """The odd Taylor remainder of an argument, |<u, f(x + hd) - f(x - hd)> - 2h <g, d>|, for smaller and smaller h.

    In double logarithms it falls with a slope of 3 where g is the gradient, and with 1 where it is another. None
    where the function is so nearly linear that nothing but rounding remains.
    """

    function: str
    argument: str
    steps: tuple[float, ...]
    remainders: tuple[float, ...]
    slope: float | None


@dataclass(frozen=True)
class Saved:
    """One tensor that the forward keeps for the backward, and until when."""

    function: str
    tensor: str  # "`x`", "an output", "an intermediate"
    shape: tuple[int, ...]
    dtype: str
    bytes: int
    until: str


Measured = Taylor | Saved


def saved(function: str, name: str, tensor: torch.Tensor, until: str) -> Saved:
    """What is said of one saved tensor."""
    dtype = str(tensor.dtype).removeprefix("torch.")
    return Saved(function, name, tuple(tensor.shape), dtype, tensor.numel() * tensor.element_size(), until)


def to_dict(measured: Measured) -> Mapping[str, Any]:
    return asdict(measured)
