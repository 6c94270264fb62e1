"""Central differences on a ladder of steps, with an estimate of their own error (Ridders' method).

No single step is right: too large and the curvature shows, too small and the rounding does. A ladder
extrapolated to step zero says how well it knows, and what it does not know well enough convicts nobody.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

RATIO = 4.0
LEVELS = 8  # the last step is just above the rounding of single precision
COARSE = 4  # up to this level a step is large against single precision: what does not move here is constant


@dataclass(frozen=True)
class Estimate:
    """A directional derivative, with `error` its own estimate of how far off it may be.

    `left` and `right` are the one-sided slopes at the smallest step used: they differ at a kink. `constant`
    is True where no step large enough to be seen changed the output at all.
    """

    value: float
    error: float
    left: float
    right: float
    constant: bool = False

    @property
    def usable(self) -> bool:
        return math.isfinite(self.value) and math.isfinite(self.error)


UNKNOWN = Estimate(math.nan, math.inf, math.nan, math.nan)


def ladder(
    change: Callable[[float], tuple[float, float, float] | None],
    *,
    step: float,
    accuracy: float,
    noise: float,
) -> Estimate:
    """The derivative at 0 of a function known by its changes.

    Args:
        change: h -> (s(h) - s(0), s(0) - s(-h), bend); None where the function is not defined that far out.
            `bend` is how much the two differ, summed over the outputs without regard to sign.
        step: the first and largest h; each next one is `RATIO` times smaller.
        accuracy: stop as soon as the estimated error is below this.
        noise: how large the rounding in a change may be.
    """
    best = UNKNOWN
    row: list[float] = []  # Ridders' tableau, the row of the last step
    previous_bend = previous_change = math.inf
    still = 0  # how many steps in a row changed nothing at all
    quiet = 0  # how many changed nothing but the rounding, as along a ray for a cosine
    h = step
    for level in range(LEVELS):
        moved = change(h)
        if moved is None or not all(map(math.isfinite, moved)):
            row, h = [], h / RATIO
            continue
        right, left = moved[0] / h, moved[1] / h
        still = still + 1 if moved == (0.0, 0.0, 0.0) else 0
        quiet = quiet + 1 if max(map(abs, moved)) <= 8 * noise else 0
        if still >= 3 and level <= COARSE:
            return Estimate(0.0, noise / h, 0.0, 0.0, constant=True)
        if quiet >= 3 and level <= COARSE:  # a slope larger than this would have shown at the first of the three
            nothing = Estimate(0.0, 8 * noise / (h * RATIO**2), 0.0, 0.0)
            return min(best, nothing, key=lambda estimate: estimate.error)
        if still and level > COARSE:
            break  # the step is below what the function resolves: nothing further is to be learned
        new = _extrapolate(row, (right + left) / 2)
        # One-sided slopes that do not approach each other: a kink, or rounding; either way not known better
        # than that.
        bend = moved[2] / h
        stuck = bend / 2 if bend > 0.5 * previous_bend else 0.0
        # Central slopes that do not come nearer to each other: steps too large for what happens here, and the
        # slope may be anything.
        change_of_slope = abs(new[0] - row[0]) if row else math.inf
        astray = change_of_slope > max(0.5 * previous_change, 1e-3 * abs(new[0]))
        error = _error(row, new) + stuck + noise / h
        if len(new) >= 3 and not astray and error <= best.error:
            best = Estimate(new[_best_column(row, new)], error, left, right)
        if best.error <= accuracy and not still:
            break  # good enough
        row, previous_bend, previous_change, h = new, bend, change_of_slope, h / RATIO
    return best


def _extrapolate(row: list[float], central: float) -> list[float]:
    new = [central]
    for order, older in enumerate(row[:6], start=1):
        factor = RATIO ** (2 * order)
        new.append((factor * new[-1] - older) / (factor - 1))
    return new


def _differences(row: list[float], new: list[float]) -> list[float]:
    return [max(abs(new[j] - new[j - 1]), abs(new[j] - row[j - 1])) for j in range(1, len(new))]


def _best_column(row: list[float], new: list[float]) -> int:
    errors = _differences(row, new)
    return 1 + errors.index(min(errors)) if errors else 0


def _error(row: list[float], new: list[float]) -> float:
    return min(_differences(row, new), default=math.inf)
