"""Curves that stand for the derivative of a step in spiking networks.

Each is the derivative of a primitive: a smooth step from 0 to 1 that is 1/2 at 0, so that its area is 1 and its height
follows from its steepness. Libraries disagree about the height under one and the same name; `Curve.with_peak` fixes it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from gradsmith.define.errors import DefinitionError
from gradsmith.define.op import Op
from gradsmith.surrogates.surrogate import surrogate

Function = Callable[[Tensor], Tensor]


class Curve:
    """A surrogate derivative and its primitive, both functions of u, the distance from the threshold.

    `step` is the op: 1 where u >= 0, else 0, differentiated by this curve and declared to be so.
    """

    def __init__(self, name: str, derivative: Function, primitive: Function) -> None:
        self.name, self.derivative, self.primitive = name, derivative, primitive
        self.step: Op[[Tensor], Tensor] = surrogate(step, derivative, primitive=primitive)

    def with_peak(self, peak: float) -> Curve:
        """The same shape with the derivative `peak` at 0; the primitive then steps to another value than 1.

        >>> float(fast_sigmoid(25).with_peak(1).derivative(torch.tensor(0.0)))
        1.0
        """
        factor = peak / float(self.derivative(torch.zeros((), dtype=torch.float64)))
        name = f"{self.name}.with_peak({peak})"
        return Curve(name, lambda u: self.derivative(u) * factor, lambda u: self.primitive(u) * factor)

    def __repr__(self) -> str:
        return self.name


def step(u: Tensor) -> Tensor:
    return (u >= 0).to(u.dtype)


def _positive(name: str, value: float) -> None:
    if not value > 0:
        raise DefinitionError(f"{name}: its steepness must be positive, got {value}")


def sigmoid(slope: float = 4.0) -> Curve:
    """k σ(ku) (1 - σ(ku)), height k/4. Source: Zenke and Vogels 2021, https://doi.org/10.1162/neco_a_01367."""
    _positive("sigmoid", slope)

    def derivative(u: Tensor) -> Tensor:
        s = torch.sigmoid(slope * u)
        return slope * s * (1 - s)

    return Curve(f"sigmoid({slope})", derivative, lambda u: torch.sigmoid(slope * u))


def fast_sigmoid(slope: float = 25.0) -> Curve:
    """(k/2) / (1 + k abs(u))², height k/2. Source: SuperSpike, Zenke and Ganguli 2018, https://arxiv.org/abs/1705.11146."""
    _positive("fast_sigmoid", slope)
    return Curve(
        f"fast_sigmoid({slope})",
        lambda u: (1 + slope * u.abs()).reciprocal().square() * (slope / 2),
        lambda u: 0.5 + 0.5 * torch.nn.functional.softsign(slope * u),
    )


def atan(alpha: float = 2.0) -> Curve:
    """(α/2) / (1 + (παu/2)²), height α/2. Source: Fang et al. 2021, https://arxiv.org/abs/2007.05785."""
    _positive("atan", alpha)
    inner = math.pi / 2 * alpha
    return Curve(
        f"atan({alpha})",
        lambda u: (1 + (inner * u).square()).reciprocal() * (alpha / 2),
        lambda u: torch.atan(inner * u) / math.pi + 0.5,
    )


def triangle(alpha: float = 1.0) -> Curve:
    """max(0, α - α² abs(u)), height α. Source: Bellec et al. 2018, https://arxiv.org/abs/1803.09574."""
    _positive("triangle", alpha)

    def primitive(u: Tensor) -> Tensor:
        v = (alpha * u).clamp(-1, 1)
        return 0.5 + v - v * v.abs() / 2

    return Curve(f"triangle({alpha})", lambda u: alpha * (1 - alpha * u.abs()).relu(), primitive)


def gaussian(alpha: float = 2.0) -> Curve:
    """(α/√π) exp(-(αu)²), height α/√π. Source: Yin et al. 2021, https://arxiv.org/abs/2103.12593."""
    _positive("gaussian", alpha)
    height = alpha / math.sqrt(math.pi)
    return Curve(
        f"gaussian({alpha})",
        lambda u: torch.exp(-(alpha * u).square()) * height,
        lambda u: 0.5 + 0.5 * torch.erf(alpha * u),
    )


def exponential(alpha: float = 1.0) -> Curve:
    """(α/2) exp(-α abs(u)), height α/2. Source: SLAYER, Shrestha and Orchard 2018, https://arxiv.org/abs/1810.08646."""
    _positive("exponential", alpha)
    return Curve(
        f"exponential({alpha})",
        lambda u: torch.exp(-alpha * u.abs()) * (alpha / 2),
        lambda u: 0.5 - 0.5 * torch.sign(u) * torch.expm1(-alpha * u.abs()),
    )


def boxcar(alpha: float = 1.0) -> Curve:
    """α where abs(u) < 1/(2α), else 0; height α. Source: STBP, Wu et al. 2018, https://arxiv.org/abs/1706.02609."""
    _positive("boxcar", alpha)
    return Curve(
        f"boxcar({alpha})",
        lambda u: (u.abs() < 0.5 / alpha).to(u.dtype) * alpha,
        lambda u: (alpha * u + 0.5).clamp(0, 1),
    )
