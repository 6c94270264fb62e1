"""Oracle 5, for the person who reads: how fast the odd Taylor remainder falls."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from gradsmith.check.isolation import Raised
from gradsmith.check.measured import Taylor
from gradsmith.check.oracle import differentiable_places, inner, random_direction, size_of
from gradsmith.check.subject import Subject

LEVELS = 8
FEWEST = 3  # points that a slope is laid through


def taylor(subject: Subject, position: int) -> Taylor | None:
    """The remainders of the argument at `position`; None where the forward cannot be run around the point."""
    value = subject.inputs[position].detach()
    grad = subject.base_grads[position]
    places, upstream = differentiable_places(subject), subject.base_upstream
    direction = random_direction(value, 60)
    expected = 0.0 if grad is None else inner(grad, direction)
    needs = tuple(False for _ in subject.inputs)

    def outputs(h: float) -> list[torch.Tensor]:
        moved = list(subject.inputs)
        moved[position] = torch.add(value, direction.to(value.dtype), alpha=h)
        run = subject.forward(tuple(moved), needs=needs)
        return [run.outputs[place].detach() for place in places]

    steps = tuple(100 * subject.tolerance.step / 2**level for level in range(LEVELS))
    remainders = []
    try:
        for h in steps:
            pairs = zip(upstream, outputs(h), outputs(-h), strict=True)
            change = sum(inner(up, ahead) - inner(up, behind) for up, ahead, behind in pairs)
            remainders.append(abs(change - 2 * h * expected))
    except (Raised, RuntimeError):  # refused so far out, or of another shape there
        return None
    if not all(map(math.isfinite, remainders)):
        return None
    noise = 30 * subject.tolerance.eps * size_of(upstream, [subject.base.outputs[place].detach() for place in places])
    slope = _slope([(h, r) for h, r in zip(steps, remainders, strict=True) if r > noise][-5:])
    return Taylor(subject.case.name, subject.argument(position), steps, tuple(remainders), slope)


def _slope(points: Sequence[tuple[float, float]]) -> float | None:
    """Of the line of least squares through the points, in double logarithms."""
    if len(points) < FEWEST:
        return None
    across, up = [math.log(h) for h, _ in points], [math.log(r) for _, r in points]
    middle, height = sum(across) / len(points), sum(up) / len(points)
    rise = sum((a - middle) * (b - height) for a, b in zip(across, up, strict=True))
    return rise / sum((a - middle) ** 2 for a in across)
