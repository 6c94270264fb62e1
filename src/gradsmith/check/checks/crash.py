"""Asks: do forward and backward run at all on the inputs given?

Cannot see: a crash on other inputs (edge-shape, layout-dependent and others look there), nor one of the
process itself.
"""

from __future__ import annotations

from collections.abc import Iterator

from gradsmith.check.checks.returned import explains_failure
from gradsmith.check.device import lacks_device
from gradsmith.check.finding import Finding
from gradsmith.check.findings import finding
from gradsmith.check.isolation import Raised
from gradsmith.check.subject import Subject
from gradsmith.check.watch import Overdue

CODES = ("crash",)


def check(subject: Subject) -> Iterator[Finding]:
    failure = subject.failure
    if failure is not None and not explains_failure(subject):
        yield crash_of(subject, failure)


def crash_of(subject: Subject, failure: Raised) -> Finding:
    """What is said of a call on the inputs given that raises or does not return."""
    text = f"{type(failure.error).__name__}: {failure.error}"
    late = isinstance(failure.error, Overdue)
    return finding(
        subject,
        "crash",
        None,
        f"{failure.stage} hangs on the inputs given: {failure.error}"
        if late
        else f"{failure.stage} raises on the inputs given: {text.splitlines()[0]}",
        evidence={"exception": text, "stage": failure.stage},
        advice=_advice(failure),
        raised=failure,
        where="forward" if failure.stage == "forward" else "backward",
        show="print({call})" if failure.stage == "forward" else None,
    )


def _advice(failure: Raised) -> str:
    if isinstance(failure.error, Overdue):
        return "see the line where it was stopped; if it is only slow, give it smaller inputs or a larger budget"
    if lacks_device(failure.error):
        return "the forward ran on the CPU, and so must the backward: make new tensors with device=x.device"
    return f"run the {failure.stage} on these inputs by itself; the exception is the author's own code's"
