"""Name -> check. The order is the order of the questions: what explains most comes first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from gradsmith.check.checks import (
    batching,
    compiled,
    crash,
    double_backward,
    edge_shape,
    forward_mode,
    gradient,
    layout,
    mutation,
    needless_save,
    optional,
    precision,
    returned,
    saves,
    state,
    subsets,
    tracking,
    undefined,
    values,
)
from gradsmith.check.finding import Finding
from gradsmith.check.subject import Subject

Needs = Literal["nothing", "forward", "backward"]


@dataclass(frozen=True)
class Check:
    """One question. `needs` is what must run for it to make sense; `codes` is what it may answer."""

    codes: tuple[str, ...]
    run: Callable[[Subject], Iterator[Finding]]
    needs: Needs = "backward"
    compares: bool = True  # one call with another: only where forward and backward repeat themselves
    on_request: bool = False  # costs seconds: asked only where one of its codes is named in `only`
    seconds: float | None = None  # how long it may take where the usual time will not do


CHECKS: dict[str, Check] = {
    "returned": Check(returned.CODES, returned.check, needs="forward", compares=False),
    "crash": Check(crash.CODES, crash.check, needs="nothing", compares=False),
    "tracking": Check(tracking.CODES, tracking.check, needs="forward"),
    "state": Check(state.CODES, state.check, compares=False),
    "gradient": Check(gradient.CODES, gradient.check, compares=False),
    "double-backward": Check(double_backward.CODES, double_backward.check),
    "optional": Check(optional.CODES, optional.check),
    "edge-shape": Check(edge_shape.CODES, edge_shape.check),
    "layout": Check(layout.CODES, layout.check),
    "subsets": Check(subsets.CODES, subsets.check),
    "undefined": Check(undefined.CODES, undefined.check),
    "mutation": Check(mutation.CODES, mutation.check, needs="forward", compares=False),
    "saves": Check(saves.CODES, saves.check),
    "needless-save": Check(needless_save.CODES, needless_save.check),
    "values": Check(values.CODES, values.check),
    "precision": Check(precision.CODES, precision.check),
    "forward-mode": Check(forward_mode.CODES, forward_mode.check),
    "vmap": Check(batching.CODES, batching.check),
    "compile": Check(compiled.CODES, compiled.check, on_request=True, seconds=600.0),
}

CODES: tuple[str, ...] = tuple(dict.fromkeys(code for check in CHECKS.values() for code in check.codes))
