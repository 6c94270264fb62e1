"""Name -> check. The order is the order of the questions: what explains most comes first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from gradsmith.check.checks import crash, double_backward, edge_shape, gradient, optional, returned
from gradsmith.check.finding import Finding
from gradsmith.check.subject import Subject

Needs = Literal["nothing", "forward", "backward"]


@dataclass(frozen=True)
class Check:
    """One question. `needs` is what must run for it to make sense; `codes` is what it may answer."""

    codes: tuple[str, ...]
    run: Callable[[Subject], Iterator[Finding]]
    needs: Needs = "backward"


CHECKS: dict[str, Check] = {
    "returned": Check(returned.CODES, returned.check, needs="forward"),
    "crash": Check(crash.CODES, crash.check, needs="nothing"),
    "gradient": Check(gradient.CODES, gradient.check),
    "double-backward": Check(double_backward.CODES, double_backward.check),
    "optional": Check(optional.CODES, optional.check),
    "edge-shape": Check(edge_shape.CODES, edge_shape.check),
}

CODES: tuple[str, ...] = tuple(dict.fromkeys(code for check in CHECKS.values() for code in check.codes))
