"""`[tool.gradsmith]` in pyproject.toml: defaults for the options of `gradsmith check`, and accepted findings.

[tool.gradsmith]
skip = ["needless-gradient"]
strict = true
budget = 20
baseline = "gradsmith-baseline.json"

[[tool.gradsmith.allow]]
function = "Loss"
code = "gradient-scale"
reason = "the loss divides by the batch size itself"
"""

from __future__ import annotations

import difflib
import importlib
import sys
from pathlib import Path
from typing import Any

from gradsmith.cli.problem import Problem

tomllib = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")

TYPES: dict[str, tuple[type, ...]] = {
    "only": (list,),
    "skip": (list,),
    "strict": (bool,),
    "budget": (int, float),
    "memory": (int, float),
    "limit": (int,),
    "jobs": (int,),
    "seed": (int,),
    "baseline": (str,),
    "allow": (list,),
}


def read(directory: Path) -> dict[str, Any]:
    """The settings in the nearest pyproject.toml at or above `directory`; none where there is no such table.

    Raises:
        Problem: the file is no TOML, a setting is unknown or has the wrong type.
    """
    for folder in (directory, *directory.parents):
        file = folder / "pyproject.toml"
        if file.is_file():
            return _checked(file, _table(file))
    return {}


def _table(file: Path) -> dict[str, Any]:
    try:
        table: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8")).get("tool", {}).get("gradsmith", {})
    except (OSError, ValueError) as error:
        raise Problem(f"{file} cannot be read: {error}") from error
    return table


def _checked(file: Path, table: dict[str, Any]) -> dict[str, Any]:
    for name, value in table.items():
        if name not in TYPES:
            near = difflib.get_close_matches(name, TYPES, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(TYPES)}"
            raise Problem(f"{file}: unknown setting tool.gradsmith.{name}: {hint}")
        if not isinstance(value, TYPES[name]) or (isinstance(value, bool) and bool not in TYPES[name]):
            expected = " or ".join(kind.__name__ for kind in TYPES[name])
            raise Problem(f"{file}: tool.gradsmith.{name} must be {expected}, got {value!r}")
    return table
