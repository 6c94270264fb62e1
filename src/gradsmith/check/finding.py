"""What a check answers: a `Finding`, and the `Report` that gathers them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True)
class Location:
    """A line of the author's code."""

    file: str
    line: int
    text: str = ""  # that line's source, stripped

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Finding:
    """One answer about one Function.

    `evidence` maps short names to plain values (numbers, strings, lists): the element, the value got, the
    value expected, the ratio, the oracle and its error estimate. `reproduce` is a script that shows the
    fault with torch alone.
    """

    code: str  # a name from the table of codes: "gradient-sign"
    severity: Severity
    function: str  # as its author calls it: "LinearFunction"
    argument: str | None  # "weight"; None where the finding is about the whole
    message: str  # "backward returns 2x the derivative for `weight` in all 12 elements"
    evidence: Mapping[str, Any] = field(default_factory=dict)
    advice: str = ""
    reproduce: str = ""
    location: Location | None = None  # the `backward`, the formula or the `forward` at fault

    def to_dict(self) -> dict[str, Any]:
        location = None
        if self.location is not None:
            location = {"file": self.location.file, "line": self.location.line, "text": self.location.text}
        return {
            "code": self.code,
            "severity": self.severity,
            "function": self.function,
            "argument": self.argument,
            "message": self.message,
            "evidence": dict(self.evidence),
            "advice": self.advice,
            "reproduce": self.reproduce,
            "location": location,
        }


@dataclass(frozen=True)
class Skipped:
    """A question that was not answered, and why: nothing is left out in silence."""

    function: str
    check: str
    reason: str
