"""Weighing one slope against a gradient: supported, refuted, or too uncertain for either."""

from __future__ import annotations

import torch

from gradsmith.check.compare import scale
from gradsmith.check.difference import Estimate
from gradsmith.check.oracle import inner, random_direction, size_of, slope
from gradsmith.check.subject import Subject


def base_slope(
    subject: Subject, position: int, direction: torch.Tensor, guess: torch.Tensor, stretch: float = 1.0
) -> Estimate:
    accuracy = 0.01 * allowance(subject, guess, direction, 0.0)
    return slope(subject, position, direction, subject.base_upstream, accuracy=accuracy, stretch=stretch)


def allowance(subject: Subject, gradient: torch.Tensor, direction: torch.Tensor, slope_found: float) -> float:
    """How far the slope along `direction` may be from what the gradient says."""
    weight = size_of([gradient], [direction])
    floor = subject.tolerance.floor * scale(gradient) * size_of([direction], [torch.ones_like(direction)])
    return float(subject.tolerance.relative * max(weight, abs(slope_found)) + floor)


def supports(subject: Subject, estimate: Estimate, gradient: torch.Tensor, direction: torch.Tensor) -> bool:
    """Whether the slope is what the gradient says, as far as both are known, and known well enough."""
    allowed = allowance(subject, gradient, direction, estimate.value) + zero_slope(subject)
    off = abs(estimate.value - inner(gradient, direction))
    return estimate.usable and estimate.error <= allowed and off <= allowed + estimate.error


def refutes(subject: Subject, estimate: Estimate, gradient: torch.Tensor, direction: torch.Tensor) -> bool:
    """Whether the slope is certainly another than the gradient says."""
    allowed = allowance(subject, gradient, direction, estimate.value)
    off = abs(estimate.value - inner(gradient, direction))
    return estimate.usable and off > allowed and off > 8 * estimate.error


def zero_slope(subject: Subject) -> float:
    """A slope that is zero may come out this large by rounding."""
    return 1e5 * subject.tolerance.eps * size_of(subject.base_upstream, subject.base.differentiable)


def is_kink(estimate: Estimate) -> bool:
    size = max(abs(estimate.left), abs(estimate.right), 1e-300)
    return abs(estimate.left - estimate.right) > 1e-3 * size


def relative_error(estimate: Estimate, direction: torch.Tensor, gradient: torch.Tensor) -> float:
    weight = size_of([gradient], [direction])
    return estimate.error / weight if weight else estimate.error


def is_constant(subject: Subject, position: int, got: torch.Tensor) -> bool:
    """Whether the output does not move with a few elements of the argument that have a gradient, at any
    small step."""
    places = got.reshape(-1).abs().argsort(descending=True)[: max(8, got.numel() // 8)]
    places = places[torch.linspace(0, places.numel() - 1, min(8, places.numel())).long()]
    moved = 0
    for place in places.tolist():
        unit = torch.zeros_like(got).reshape(-1)
        unit[place] = random_direction(subject.inputs[position], 7).reshape(-1)[place]
        estimate = base_slope(subject, position, unit.reshape(got.shape), got)
        if not estimate.constant and not _has_slope(estimate):  # a staircase of steps narrower than the first ones
            estimate = base_slope(subject, position, unit.reshape(got.shape), got, stretch=0.02)
        moved += not estimate.constant
    return moved == 0


def _has_slope(estimate: Estimate) -> bool:
    return estimate.usable and estimate.error < 0.1 * abs(estimate.value)
