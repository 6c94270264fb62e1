"""The error of a gradient over its argument, small enough for a report."""

from __future__ import annotations

import math
from typing import Any

import torch

from gradsmith.check.compare import scale

MOST = 32  # cells along a side
LARGEST = 1e9  # what stands for an infinite error


def error_map(got: torch.Tensor, expected: torch.Tensor) -> dict[str, Any]:
    """Errors relative to the scale of the gradient: `{"shape", "block", "worst"}`.

    `worst` has a row of cells for each `block[0]` rows of elements, and a cell for each `block[1]` columns: the
    largest error among them, or None where none was looked at (`expected` is NaN). Dimensions before the last are
    laid out one under the other; a vector is one row.
    """
    size = scale(torch.nan_to_num(expected, 0.0, 0.0, 0.0)) or scale(torch.nan_to_num(got, 0.0, 0.0, 0.0)) or 1.0
    error = (got - expected).abs().to(torch.float64) / size
    error = torch.where(torch.isfinite(expected), error.nan_to_num(LARGEST).clamp_max(LARGEST), -1.0)
    columns = error.shape[-1] if error.dim() else 1
    grid = error.reshape(-1, columns)
    down, across = math.ceil(len(grid) / MOST) or 1, math.ceil(columns / MOST) or 1
    missing = (0, -columns % across, 0, -len(grid) % down)
    grid = torch.nn.functional.pad(grid, missing, value=-1.0)
    cells = grid.reshape(len(grid) // down, down, -1, across).amax((1, 3))
    worst = [[float(f"{cell:.3g}") if cell >= 0 else None for cell in row] for row in cells.tolist()]
    return {"shape": list(got.shape), "block": [down, across], "worst": worst}
