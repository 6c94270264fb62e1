"""The report as one web page: `report.html.j2` beside this file, filled in."""

from __future__ import annotations

from gradsmith.check.report.results import Results


def render(results: Results) -> str:
    """The whole page."""
    return ""
