"""Findings that are accepted: by a comment at the Function, by pyproject.toml, or by a baseline file.

    # gradsmith: allow gradient-scale the loss divides by the batch size itself
    class Loss(torch.autograd.Function):

The comment stands directly above the class (or the decorated function of an op), or on its first line. An
accepted finding no longer fails the run and is still listed, with its reason, under what was not looked at.
"""

from __future__ import annotations

import linecache
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from gradsmith.check.case import Case, declaration, locate
from gradsmith.check.codes import CodeError, page
from gradsmith.check.finding import Finding, Location, Skipped
from gradsmith.check.report import Outcome
from gradsmith.cli.problem import Problem

_COMMENT = re.compile(r"#\s*gradsmith:\s*allow\b[ \t]*(?P<code>[\w-]*)[ \t]*(?P<reason>.*)")


@dataclass(frozen=True)
class Allowed:
    """One code that is accepted of one Function."""

    function: str
    code: str
    reason: str  # with the place where it is written down


def commented(case: Case) -> list[Allowed]:
    """What the comments at the case's Function allow.

    Raises:
        Problem: a comment names no code, an unknown one, or no reason.
    """
    place = _beginning(case)
    if place is None:
        return []
    found = []
    for number in _lines_at(place):
        if match := _COMMENT.search(linecache.getline(place.file, number)):
            found.append(_allowed(case.name, match["code"], match["reason"].strip(), f"{place.file}:{number}"))
    return found


def _beginning(case: Case) -> Location | None:
    """The first line of the class, or of an op's forward with its decorators."""
    plan = declaration(case.function_class)
    if plan is None:
        return locate(case.function_class) or case.location("forward")
    code = getattr(plan.forward, "__code__", None)
    return None if code is None else Location(code.co_filename, code.co_firstlineno)


def _lines_at(place: Location) -> list[int]:
    """The line itself, and the comments and decorators directly above it."""
    lines = [place.line]
    number = place.line - 1
    while number > 0 and linecache.getline(place.file, number).lstrip().startswith(("#", "@")):
        lines.append(number)
        number -= 1
    return lines


def configured(entries: Sequence[dict[str, Any]]) -> list[Allowed]:
    """What the `[[tool.gradsmith.allow]]` tables of pyproject.toml allow."""
    found = []
    for entry in entries:
        if set(entry) != {"function", "code", "reason"}:
            raise Problem(f"[[tool.gradsmith.allow]] takes function, code and reason, got {', '.join(sorted(entry))}")
        found.append(_allowed(entry["function"], entry["code"], entry["reason"], "pyproject.toml"))
    return found


def _allowed(function: str, code: str, reason: str, where: str) -> Allowed:
    try:
        page(code)
    except CodeError as error:
        raise Problem(f"{where}: {error}") from error
    if not reason:
        raise Problem(f"{where}: allow {code} must be followed by a reason")
    return Allowed(function, code, f"allowed in {where}: {reason}")


def without(outcome: Outcome, allowed: Sequence[Allowed]) -> Outcome:
    """The outcome with its accepted findings turned into entries of what was not looked at."""
    reasons = {(entry.function, entry.code): entry.reason for entry in allowed}

    def accepted(finding: Finding) -> str | None:
        return reasons.get((finding.function, finding.code))

    report = outcome.report
    return replace(
        outcome,
        report=replace(
            report,
            findings=tuple(finding for finding in report.findings if accepted(finding) is None),
            skipped=report.skipped
            + tuple(
                Skipped(finding.function, finding.code, reason)
                for finding in report.findings
                if (reason := accepted(finding)) is not None
            ),
        ),
    )
