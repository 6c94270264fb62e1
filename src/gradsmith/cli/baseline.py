"""The baseline: findings that were there before, so that a large code base fails only on new ones.

A finding is known by function, code, argument and file, not by line: editing above it does not make it new.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from gradsmith.check.finding import Finding, Skipped
from gradsmith.check.report import Outcome
from gradsmith.check.report.results import short_path
from gradsmith.cli.problem import Problem

SCHEMA_VERSION = 1
Key = tuple[str, str, str | None, str | None]


def write(path: Path, findings: Iterable[Finding]) -> int:
    """Write the errors and warnings among `findings`; returns how many."""
    keys = sorted({_key(f) for f in findings if f.severity != "note"}, key=str)
    fields = ("function", "code", "argument", "file")
    document = {"schema": SCHEMA_VERSION, "findings": [dict(zip(fields, key, strict=True)) for key in keys]}
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return len(keys)


def read(path: Path) -> set[Key]:
    """The findings of a baseline file.

    Raises:
        Problem: the file cannot be read, or is no baseline of this version.
    """
    try:
        document: Any = json.loads(path.read_text(encoding="utf-8"))
        if document["schema"] != SCHEMA_VERSION:
            raise ValueError(f"its schema is {document['schema']}, expected {SCHEMA_VERSION}")
        return {(f["function"], f["code"], f["argument"], f["file"]) for f in document["findings"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Problem(f"baseline {path} cannot be read: {type(error).__name__}: {error}") from error


def without(outcome: Outcome, known: set[Key], path: Path) -> Outcome:
    """The outcome with the findings of the baseline turned into entries of what was not looked at."""
    report = outcome.report
    old = [finding for finding in report.findings if _key(finding) in known]
    return replace(
        outcome,
        report=replace(
            report,
            findings=tuple(finding for finding in report.findings if finding not in old),
            skipped=report.skipped + tuple(Skipped(f.function, f.code, f"known in {path}") for f in old),
        ),
    )


def _key(finding: Finding) -> Key:
    file = None if finding.location is None else short_path(finding.location.file)
    return finding.function, finding.code, finding.argument, file
