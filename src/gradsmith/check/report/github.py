"""GitHub workflow commands: each finding becomes an annotation beside its line in a pull request."""

from __future__ import annotations

from gradsmith.check.finding import Finding
from gradsmith.check.report.results import Results, short_path

_LEVEL = {"error": "error", "warning": "warning", "note": "notice"}


def render(results: Results) -> str:
    """One workflow command a line, then the counts as plain text for the log."""
    lines = [_annotation(finding) for finding in results.report.findings]
    lines += [f"::error title=gradsmith::{_data(problem)}" for problem in results.problems]
    return "\n".join([*lines, results.counts]) + "\n"


def _annotation(finding: Finding) -> str:
    properties = {"title": f"{finding.code} in {finding.function}"}
    if finding.location is not None:
        properties = {
            "file": short_path(finding.location.file),
            "line": str(finding.location.line),
            **properties,
        }
    written = ",".join(f"{name}={_property(value)}" for name, value in properties.items())
    message = "\n".join(filter(None, [finding.message, finding.advice]))
    return f"::{_LEVEL[finding.severity]} {written}::{_data(message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
