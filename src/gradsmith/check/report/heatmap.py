"""The error of a gradient over its argument, element by element, as rows of cells that a page can draw.

Cells hold a level from 0 (right) to 5 (wrong in the first digit). A large tensor is pooled: a cell shows the
worst of the elements it stands for, so that one wrong element in a million is still seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

LEVELS = ("right", "up to 1e-4", "up to 1e-3", "up to 1e-2", "up to 1e-1", "more")  # relative error
MOST = 48  # cells along a side


@dataclass(frozen=True)
class HeatMap:
    """`rows` of levels; a cell is None where nothing was looked at."""

    rows: tuple[tuple[int | None, ...], ...]
    shape: tuple[int, ...]  # the argument's own
    pooled: tuple[int, int]  # how many rows and columns of elements a cell stands for
    wrong: int  # elements that are not right
    total: int

    @property
    def described(self) -> str:
        """What the picture shows, for those who do not see it."""
        pooled = "" if self.pooled == (1, 1) else f"; a cell shows the worst of {self.pooled[0]} x {self.pooled[1]}"
        return f"relative error over shape {self.shape}: {self.wrong:,} of {self.total:,} elements wrong{pooled}"


def heat_map(errors: Any) -> HeatMap:
    """The map of a nested list of relative errors, as `Tensor.tolist()` gives it; NaN where nothing is known.

    Dimensions before the last are laid out one under the other; a vector is one row.
    """
    shape = _shape(errors)
    flat = list(_flat(errors))
    columns = shape[-1] if shape else 1
    grid = [flat[start : start + columns] for start in range(0, len(flat), columns)] if flat else []
    down, across = math.ceil(len(grid) / MOST) or 1, math.ceil(columns / MOST) or 1
    rows = tuple(
        tuple(
            _worst([row[left : left + across] for row in grid[top : top + down]]) for left in range(0, columns, across)
        )
        for top in range(0, len(grid), down)
    )
    wrong = sum(1 for error in flat if _level(error) not in (0, None))
    return HeatMap(rows, shape, (down, across), wrong, len(flat))


def _worst(block: Sequence[Sequence[Any]]) -> int | None:
    levels = [level for row in block for error in row if (level := _level(error)) is not None]
    return max(levels, default=None)


def _level(error: Any) -> int | None:
    value = abs(float(error))
    if math.isnan(value):
        return None
    return sum(value > bound for bound in (1e-5, 1e-4, 1e-3, 1e-2, 1e-1))


def _shape(nested: Any) -> tuple[int, ...]:
    return (len(nested), *(_shape(nested[0]) if nested else ())) if isinstance(nested, list | tuple) else ()


def _flat(nested: Any) -> Any:
    if isinstance(nested, list | tuple):
        for item in nested:
            yield from _flat(item)
    else:
        yield nested
