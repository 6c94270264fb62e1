"""Asks: do forward and backward run at all on the inputs given?

Cannot see: a crash on other inputs (edge-shape, layout-dependent and others look there), nor one of the
process itself.
"""

from __future__ import annotations

from collections.abc import Iterator

from gradsmith.check.checks.returned import explains_failure
from gradsmith.check.finding import Finding
from gradsmith.check.findings import finding
from gradsmith.check.subject import Subject

CODES = ("crash",)


def check(subject: Subject) -> Iterator[Finding]:
    failure = subject.failure
    if failure is None or explains_failure(subject):
        return
    text = f"{type(failure.error).__name__}: {failure.error}"
    yield finding(
        subject,
        "crash",
        None,
        f"{failure.stage} raises on the inputs given: {text.splitlines()[0]}",
        evidence={"exception": text, "stage": failure.stage},
        advice=f"run the {failure.stage} on these inputs by itself; the exception is the author's own code's",
        raised=failure,
        where="forward" if failure.stage == "forward" else "backward",
    )
