"""The Taylor remainders of a Function's arguments, in double logarithms, as points that a page can draw."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from gradsmith.check.measured import Taylor

WIDTH, HEIGHT, EDGE = 300, 180, 8


@dataclass(frozen=True)
class Curve:
    """One argument: where its points lie on the picture, and what its slope says."""

    argument: str
    points: tuple[tuple[float, float], ...]
    slope: float | None

    @property
    def path(self) -> str:
        """As SVG's `points`."""
        return " ".join(f"{x:g},{y:g}" for x, y in self.points)

    @property
    def described(self) -> str:
        if self.slope is None:
            return "nothing but rounding remains: the function is linear here, and the gradient right"
        meaning = "the gradient is right" if self.slope > 2.5 else "it is another" if self.slope < 1.5 else "unclear"
        return f"slope {self.slope:.2f}: {meaning}"


@dataclass(frozen=True)
class Slopes:
    """The picture: steps from left to right, remainders upwards, a power of ten as long on both axes' own scale."""

    curves: tuple[Curve, ...]
    steps: tuple[float, float]  # smallest and largest
    remainders: tuple[float, float]


def slopes(measured: Iterable[Taylor]) -> Slopes | None:
    """The picture of these remainders; None where there is nothing to draw."""
    kept = list({entry.argument: entry for entry in measured}.values())  # the last input that was seen of each
    shown = [(entry, [(h, r) for h, r in zip(entry.steps, entry.remainders, strict=True) if r > 0]) for entry in kept]
    points = [point for _, pairs in shown for point in pairs]
    if not points:
        return None
    across, up = [math.log10(h) for h, _ in points], [math.log10(r) for _, r in points]

    def place(h: float, r: float) -> tuple[float, float]:
        right = (math.log10(h) - min(across)) / (max(across) - min(across) or 1)
        above = (math.log10(r) - min(up)) / (max(up) - min(up) or 1)
        return round(EDGE + right * (WIDTH - 2 * EDGE), 1), round(HEIGHT - EDGE - above * (HEIGHT - 2 * EDGE), 1)

    curves = tuple(Curve(entry.argument, tuple(place(*pair) for pair in pairs), entry.slope) for entry, pairs in shown)
    return Slopes(curves, (10 ** min(across), 10 ** max(across)), (10 ** min(up), 10 ** max(up)))
