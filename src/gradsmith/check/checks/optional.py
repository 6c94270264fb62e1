"""Asks: does the backward work when an optional tensor (`bias=None`) is left out?

Cannot see: options that are no tensors, and combinations of several.
"""

from __future__ import annotations

from collections.abc import Iterator

from gradsmith.check.checks.returned import explains_failure
from gradsmith.check.finding import Finding
from gradsmith.check.findings import finding
from gradsmith.check.judge import judge
from gradsmith.check.subject import Subject
from gradsmith.check.variations import without_optional

CODES = ("crash", "gradient-count", "gradient-wrong")


def check(subject: Subject) -> Iterator[Finding]:
    for name, omitted, inputs in without_optional(subject):
        varied = subject.at(inputs, f"{name}=None")
        if not varied.base_runs or not varied.base.differentiable:
            continue
        subject.variations.append(varied.label)
        failure = varied.failure
        if failure is not None:
            counted = explains_failure(varied)
            message = str(failure.error).strip().splitlines()[0] if str(failure.error).strip() else ""
            yield finding(
                varied,
                "gradient-count" if counted else "crash",
                name,
                f"without `{name}` the forward works and backward raises {type(failure.error).__name__}: {message}",
                evidence={"exception": str(failure.error)},
                advice=f"use `{name}` only `if {name} is not None`, and return None for it otherwise",
                raised=failure,
            )
            continue
        for position in varied.arguments:
            if position != omitted and judge(varied, position).verdict == "wrong" and _right(subject, position):
                yield finding(
                    varied,
                    "gradient-wrong",
                    varied.argument(position),
                    f"without `{name}` the gradient for `{varied.argument(position)}` is wrong",
                    advice=f"look at what backward does where `{name}` is None",
                )


def _right(subject: Subject, position: int) -> bool:
    return judge(subject, position).verdict == "right"
