"""The report as one web page without scripts: `report.html.j2` beside this file, filled in."""

from __future__ import annotations

import linecache
import re
from collections.abc import Iterator
from dataclasses import dataclass

import jinja2
from markupsafe import Markup, escape

from gradsmith.check.codes import page
from gradsmith.check.finding import Finding, Location
from gradsmith.check.measured import Saved, Taylor
from gradsmith.check.report.evidence import MAP, pairs, worst_element
from gradsmith.check.report.heatmap import LEVELS, HeatMap, heat_map
from gradsmith.check.report.results import Outcome, Results, short_path, worst_first
from gradsmith.check.report.slopes import Slopes, slopes

AROUND = 4  # source lines shown before and after the one at fault


def render(results: Results) -> str:
    """The whole page: a summary, and a section for each Function."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("gradsmith.check.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["prose"] = _prose
    template = environment.get_template("report.html.j2")
    functions = [_Function(f"function-{i}", outcome) for i, outcome in enumerate(results.outcomes, 1)]
    return template.render(results=results, functions=functions, levels=LEVELS) + "\n"


@dataclass(frozen=True)
class _Function:
    """A section of the page."""

    anchor: str
    outcome: Outcome

    @property
    def place(self) -> str:
        return "" if self.outcome.location is None else _place(self.outcome.location)

    @property
    def findings(self) -> list[_Entry]:
        return [_Entry(finding) for finding in worst_first(self.outcome.report.findings)]

    @property
    def checks(self) -> list[tuple[str, str]]:
        asked: dict[str, dict[str, None]] = {}
        for entry in self.outcome.report.checked:
            asked.setdefault(entry.check, {}).update(dict.fromkeys(entry.variations))
        return [(check, ", ".join(variations)) for check, variations in asked.items()]

    @property
    def slopes(self) -> Slopes | None:
        return slopes(entry for entry in self.outcome.report.measured if isinstance(entry, Taylor))

    @property
    def saved(self) -> list[Saved]:
        return [entry for entry in self.outcome.report.measured if isinstance(entry, Saved)]


@dataclass(frozen=True)
class _Entry:
    """A finding on the page."""

    finding: Finding

    @property
    def meaning(self) -> str:
        return page(self.finding.code).summary

    @property
    def place(self) -> str:
        return "" if self.finding.location is None else _place(self.finding.location)

    @property
    def source(self) -> list[tuple[int, str, bool]]:
        """Lines around the one at fault: number, text, whether it is the one."""
        location = self.finding.location
        return [] if location is None else list(_source(location))

    @property
    def evidence(self) -> list[tuple[str, str]]:
        return [*worst_element(self.finding), *pairs(self.finding)]

    @property
    def heat_map(self) -> HeatMap | None:
        errors = self.finding.evidence.get(MAP)
        return None if errors is None else heat_map(errors)


def _prose(text: str) -> Markup:
    """Text of a finding, with what stands in backticks set as code."""
    return Markup(re.sub(r"`([^`\n]+)`", r"<code>\1</code>", str(escape(text))))


def _place(location: Location) -> str:
    return f"{short_path(location.file)}:{location.line}"


def _source(location: Location) -> Iterator[tuple[int, str, bool]]:
    last = len(linecache.getlines(location.file))
    if not 0 < location.line <= last:  # the file has gone, or was never one: what the finding kept of it
        if location.text:
            yield location.line, location.text, True
        return
    for number in range(max(1, location.line - AROUND), min(last, location.line + AROUND) + 1):
        yield number, linecache.getline(location.file, number).rstrip("\n"), number == location.line
