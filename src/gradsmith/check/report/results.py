"""`Results`: a whole run, a `Report` for each Function in it. Every format is written from this."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from gradsmith.check.finding import SEVERITIES, Finding, Location, Severity
from gradsmith.check.report_data import Report, merge


@dataclass(frozen=True)
class Outcome:
    """One Function, checked on each of the inputs that it was seen with."""

    function: str
    report: Report
    seconds: float = 0.0
    cases: int = 1
    location: Location | None = None

    @property
    def status(self) -> str:
        """`"ok"`, how many errors and warnings (`"2 errors, 1 warning"`), or `"not checked"`. Notes do not count."""
        if not self.checked:
            return "not checked"
        counted = [count_of(len(self.report.of(s)), s) for s in ("error", "warning") if self.report.of(s)]
        return ", ".join(counted) or "ok"

    @property
    def checked(self) -> bool:
        """Whether any check was asked of it."""
        return bool(self.cases and (self.report.checked or self.report.findings))

    @property
    def worst(self) -> Severity | None:
        """The severity of the worst finding; None where nothing was found."""
        return next((severity for severity in SEVERITIES if self.report.of(severity)), None)


@dataclass(frozen=True)
class Results:
    """The Functions of a run in the order in which they were met, and what kept others from being checked."""

    outcomes: tuple[Outcome, ...] = ()
    problems: tuple[str, ...] = ()  # a sentence each: "train.py raised ValueError: ..."
    strict: bool = False  # whether warnings fail the run
    title: str = ""  # what was asked for: "examples/digits.py"

    @cached_property
    def report(self) -> Report:
        """The reports of all Functions as one."""
        return merge(outcome.report for outcome in self.outcomes)

    @property
    def seconds(self) -> float:
        return sum(outcome.seconds for outcome in self.outcomes)

    @property
    def failed(self) -> bool:
        """Whether a finding fails the run: an error, or with `strict` a warning."""
        return not self.report.ok or (self.strict and bool(self.report.of("warning")))

    @property
    def exit_code(self) -> int:
        """0 where all is well, 1 where something was found, 2 where something could not be run."""
        return 2 if self.problems else 1 if self.failed else 0

    @property
    def counts(self) -> str:
        """`"4 functions: 2 errors, 1 warning, 0 notes"`."""
        found = ", ".join(count_of(len(self.report.of(severity)), severity) for severity in SEVERITIES)
        checked = sum(1 for outcome in self.outcomes if outcome.checked)
        return f"{count_of(checked, 'function')}: {found}"


def of_report(report: Report) -> Results:
    """The report of a single `gs.check` as results, for the formats."""
    return Results(tuple(Outcome(name, _only(report, name)) for name in report.functions))


def count_of(number: int, noun: str) -> str:
    """`"1 error"`, `"2 errors"`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Errors, then warnings, then notes; otherwise in their order."""
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def short_path(file: str) -> str:
    """The path as somebody in this directory would write it; whole where it lies elsewhere."""
    try:
        relative = os.path.relpath(file)
    except ValueError:  # another drive
        return file
    return file if relative.startswith(os.pardir) else relative


def _only(report: Report, function: str) -> Report:
    return Report(
        findings=tuple(finding for finding in report.findings if finding.function == function),
        skipped=tuple(skip for skip in report.skipped if skip.function == function),
        checked=tuple(entry for entry in report.checked if entry.function == function),
        measured=tuple(entry for entry in report.measured if entry.function == function),
    )
