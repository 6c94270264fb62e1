"""Making a `Finding` of what a check knows: the severity of each code, the author's line, the script."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from typing import Any

from gradsmith.check.finding import Finding, Location, Severity
from gradsmith.check.isolation import Raised
from gradsmith.check.reproduce import script
from gradsmith.check.subject import Subject

WARNINGS = {"leaky-guard", "low-precision", "needless-gradient", "needless-save", "unhooked-save"}
NOTES = {
    "surrogate-gradient", "gradient-modifier", "no-double-backward", "no-jvp", "no-vmap", "no-compile",
    "not-smooth-here", "cannot-tell", "framework-bug",
}  # fmt: skip


def severity_of(code: str) -> Severity:
    """The severity that a code has where its check does not say otherwise."""
    return "warning" if code in WARNINGS else "note" if code in NOTES else "error"


def finding(
    subject: Subject,
    code: str,
    argument: str | None,
    message: str,
    *,
    severity: Severity | None = None,
    evidence: Mapping[str, Any] | None = None,
    advice: str = "",
    where: str = "backward",
    raised: Raised | None = None,
    show: str | None = None,
) -> Finding:
    """A finding about the subject's Function; an error gets a script (`show` are its last lines, or a plain
    gradient)."""
    severity = severity or severity_of(code)
    location = author_line(subject, raised) if raised is not None else None
    facts = dict(evidence or {})
    if subject.label != "as given":
        facts["inputs"] = subject.label
    return Finding(
        code=code,
        severity=severity,
        function=subject.case.name,
        argument=argument,
        message=message,
        evidence=facts,
        advice=advice,
        reproduce=script(subject, argument, show, facts.get("element")) if severity == "error" else "",
        location=location or subject.case.location(where, argument),
    )


def author_line(subject: Subject, raised: Raised) -> Location | None:
    """The line of the author's own file at which the exception was raised."""
    home = subject.case.location("forward") or subject.case.location("backward")
    if home is None:
        return None
    frames = [frame for frame in traceback.extract_tb(raised.error.__traceback__) if frame.filename == home.file]
    if not frames:
        return None
    return Location(home.file, frames[-1].lineno or home.line, (frames[-1].line or "").strip())
