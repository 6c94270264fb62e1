"""The `Report`: what was found, what was looked at, and what was not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from gradsmith.check.finding import SEVERITIES, Finding, Severity, Skipped
from gradsmith.check.measured import Measured, Saved, Taylor, to_dict

SCHEMA_VERSION = 2  # 2 adds `taylor` and `saved`


@dataclass(frozen=True)
class Checked:
    """One question that was asked of one Function, and in which variations."""

    function: str
    check: str
    variations: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {"function": self.function, "check": self.check, "variations": list(self.variations)}


@dataclass(frozen=True)
class Report:
    """The answer of `gs.check`.

    `ok` is True where no finding is an error; warnings and notes do not change it. `checked` says which
    questions were asked of which Function, `skipped` which were not and why.
    """

    findings: tuple[Finding, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    checked: tuple[Checked, ...] = ()
    measured: tuple[Measured, ...] = ()  # what no finding is made of: Taylor remainders, saved tensors

    @property
    def ok(self) -> bool:
        return not self.of("error")

    def of(self, severity: Severity) -> tuple[Finding, ...]:
        """The findings of one severity."""
        return tuple(finding for finding in self.findings if finding.severity == severity)

    @property
    def codes(self) -> tuple[str, ...]:
        """The codes found, each once, in the order of the findings."""
        return tuple(dict.fromkeys(finding.code for finding in self.findings))

    @property
    def functions(self) -> tuple[str, ...]:
        """The Functions looked at, in order."""
        seen = [checked.function for checked in self.checked]
        seen += [skip.function for skip in self.skipped]
        seen += [finding.function for finding in self.findings]
        return tuple(dict.fromkeys(seen))

    def __add__(self, other: Report) -> Report:
        return merge([self, other])

    def to_dict(self) -> dict[str, Any]:
        """Plain values only, ready for `json.dumps`; `schema` names the version of this layout."""
        return {
            "schema": SCHEMA_VERSION,
            "ok": self.ok,
            "counts": {severity: len(self.of(severity)) for severity in SEVERITIES},
            "findings": [finding.to_dict() for finding in self.findings],
            "skipped": [
                {"function": skip.function, "check": skip.check, "reason": skip.reason} for skip in self.skipped
            ],
            "checked": [entry.to_dict() for entry in self.checked],
            "taylor": [to_dict(entry) for entry in self.measured if isinstance(entry, Taylor)],
            "saved": [to_dict(entry) for entry in self.measured if isinstance(entry, Saved)],
        }

    def __str__(self) -> str:
        counts = ", ".join(f"{len(self.of(s))} {s}{'s' * (len(self.of(s)) != 1)}" for s in SEVERITIES)
        lines = [f"{len(self.functions)} function{'s' * (len(self.functions) != 1)} checked: {counts}"]
        for severity in SEVERITIES:
            for finding in self.of(severity):
                where = f" ({finding.location})" if finding.location else ""
                lines.append(f"{severity}: {finding.function}: {finding.code}: {finding.message}{where}")
                if finding.advice:
                    lines.append(f"    {finding.advice}")
        lines += [f"skipped: {skip.function}: {skip.check}: {skip.reason}" for skip in self.skipped]
        return "\n".join(lines)


def merge(reports: Iterable[Report]) -> Report:
    """One report of several; what stands in more than one is kept once."""
    reports = list(reports)
    findings: list[Finding] = []
    for finding in (finding for report in reports for finding in report.findings):
        same = (finding.function, finding.code, finding.argument, finding.location)
        if all(same != (f.function, f.code, f.argument, f.location) for f in findings):
            findings.append(finding)
    return Report(
        findings=tuple(findings),
        skipped=tuple(dict.fromkeys(skip for report in reports for skip in report.skipped)),
        checked=tuple(dict.fromkeys(entry for report in reports for entry in report.checked)),
        measured=tuple(dict.fromkeys(entry for report in reports for entry in report.measured)),
    )
