"""JSON, for other programs. The layout is part of the public interface; `schema` counts its versions.

    {"schema": 2, "ok": false, "title": "train.py", "strict": false,
     "counts": {"error": 1, "warning": 0, "note": 2},
     "functions": [{"function", "status", "seconds", "cases", "location"}, ...],
     "findings":  [{"code", "severity", "function", "argument", "message", "evidence", "advice", "reproduce",
                    "location": {"file", "line", "text"} or null}, ...],
     "skipped":   [{"function", "check", "reason"}, ...],
     "checked":   [{"function", "check", "variations"}, ...],
     "taylor":    [{"function", "argument", "steps", "remainders", "slope": about 3 if right, 1 if wrong}, ...],
     "saved":     [{"function", "tensor", "shape", "dtype", "bytes", "until"}, ...],
     "problems":  ["train.py raised ValueError: ...", ...]}

The `evidence` of a wrong gradient has an `error_map`: {"shape", "block": [rows, columns], "worst": [[...], ...]}, at
most 32 x 32 cells, each the largest relative error in a block of elements, null where none was looked at.

A number that JSON cannot hold stands as one of the strings "nan", "inf", "-inf".
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from gradsmith.check.report.results import Results


def render(results: Results) -> str:
    """The results as a JSON document, indented, with a final newline."""
    functions = [
        {
            "function": outcome.function,
            "status": outcome.status,
            "seconds": round(outcome.seconds, 3),
            "cases": outcome.cases,
            "location": None if outcome.location is None else asdict(outcome.location),
        }
        for outcome in results.outcomes
    ]
    document = {
        **results.report.to_dict(),
        "ok": results.exit_code == 0,
        "title": results.title,
        "strict": results.strict,
        "functions": functions,
        "problems": list(results.problems),
    }
    return json.dumps(_plain(document), indent=2, ensure_ascii=False) + "\n"


def _plain(value: Any) -> Any:
    """`value` in JSON's own types. Evidence is free in its keys, so anything else in it becomes its text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return str(value)
