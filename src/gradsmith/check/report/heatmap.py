"""The error of a gradient over its argument as rows of levels that a page can draw.

Levels go from 0 (right) to 5 (wrong in the first digit). The cells are those of `check.error_map`: each shows the worst
of the elements it stands for, so that one wrong element in a million is still seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LEVELS = ("right", "up to 1e-4", "up to 1e-3", "up to 1e-2", "up to 1e-1", "more")  # relative error


@dataclass(frozen=True)
class HeatMap:
    """`rows` of levels; a cell is None where nothing was looked at."""

    rows: tuple[tuple[int | None, ...], ...]
    shape: tuple[int, ...]  # the argument's own
    pooled: tuple[int, int]  # how many rows and columns of elements a cell stands for

    @property
    def described(self) -> str:
        """What the picture shows, for those who do not see it."""
        cells = [level for row in self.rows for level in row]
        wrong = sum(level not in (0, None) for level in cells)
        pooled = "" if self.pooled == (1, 1) else f"; a cell shows the worst of {self.pooled[0]} x {self.pooled[1]}"
        return f"relative error over shape {self.shape}: {wrong:,} of {len(cells):,} cells wrong{pooled}"


def heat_map(error_map: Mapping[str, Any]) -> HeatMap:
    """The map that `check.error_map.error_map` has made."""
    rows = tuple(tuple(map(_level, row)) for row in error_map["worst"])
    down, across = error_map["block"]
    return HeatMap(rows, tuple(error_map["shape"]), (down, across))


def _level(error: float | None) -> int | None:
    return None if error is None else sum(error > bound for bound in (1e-5, 1e-4, 1e-3, 1e-2, 1e-1))
