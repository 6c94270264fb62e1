"""The report that a person reads in a terminal: a table of the Functions, then each finding and its line.

Readable at 80 columns and without colour: colour only repeats what the words say.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Console, ConsoleRenderable, Group
from rich.padding import Padding
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from gradsmith.check.finding import Finding, Skipped
from gradsmith.check.report.evidence import pairs, worst_element
from gradsmith.check.report.results import Outcome, Results, count_of, short_path, worst_first

STYLES = {"error": "bold red", "warning": "bold yellow", "note": "bold cyan", None: "green"}
SHORT_SCRIPT, NARROW = 12, 76  # lines and columns of a script that is shown without being asked for


def render(results: Results, *, width: int = 80, verbose: bool = False) -> str:
    """The report as plain text of at most `width` columns, without colour."""
    page = io.StringIO()
    show(results, Console(file=page, width=width, color_system=None, legacy_windows=False), verbose=verbose)
    return "\n".join(line.rstrip() for line in page.getvalue().splitlines()) + "\n"


def show(results: Results, console: Console, *, verbose: bool = False) -> None:
    """Print the report on a terminal, in colour unless NO_COLOR is set."""
    if results.outcomes:
        console.print(summary(results.outcomes))
    findings = worst_first(results.report.findings)
    for finding in findings:
        if finding.severity != "note" or verbose:
            console.print()
            console.print(_finding(finding, verbose))
    if not verbose:
        _print_section(console, "Notes", list(_notes([f for f in findings if f.severity == "note"])))
    _print_section(console, "Not looked at", list(_skipped(results.report.skipped)))
    console.print()
    console.print(_last_line(results))


def summary(outcomes: Sequence[Outcome]) -> Table:
    """A row a Function: how it stands, on how many inputs, how many checks, how long it took."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_edge=False)
    table.add_column("function", overflow="fold")
    table.add_column("status", overflow="fold")
    table.add_column("checks", justify="right")
    table.add_column("inputs", justify="right")
    table.add_column("seconds", justify="right")
    for outcome in outcomes:
        checks = len({entry.check for entry in outcome.report.checked})
        style = STYLES[outcome.worst if outcome.worst != "note" else None] if outcome.checked else "dim"
        table.add_row(
            Text(outcome.function, "bold"),
            Text(outcome.status, style),
            str(checks),
            str(outcome.cases),
            f"{outcome.seconds:.1f}",
        )
    return table


def _finding(finding: Finding, verbose: bool) -> ConsoleRenderable:
    about = finding.function if finding.argument is None else f"{finding.function}, argument {finding.argument}"
    head = Text.assemble(
        (f"{finding.severity}[{finding.code}]", STYLES[finding.severity]),
        " in ",
        (about, "bold"),
        overflow="fold",
    )
    body: list[ConsoleRenderable] = [_prose(finding.message)]
    if finding.location is not None:
        place = f"{short_path(finding.location.file)}:{finding.location.line}"
        body.append(Text.assemble(("--> ", "blue"), place, overflow="fold"))
        if finding.location.text:
            body.append(Text.assemble((f"{finding.location.line:>5} | ", "blue"), finding.location.text))
    if row := worst_element(finding):
        body.append(_row(row))
    rows = [(name, _prose(value)) for name, value in pairs(finding)]
    if finding.advice:
        rows.append(("advice", _prose(finding.advice)))
    if rows:
        body.append(_pairs(rows))
    if finding.reproduce:
        body.append(_reproduce(finding.reproduce.strip("\n"), verbose))
    return Group(head, Padding(Group(*body), (0, 0, 0, 2)))


def _reproduce(script: str, verbose: bool) -> ConsoleRenderable:
    lines = script.split("\n")
    if not verbose and (len(lines) > SHORT_SCRIPT or max(map(len, lines)) > NARROW):
        return Text(f"reproduce: a script of {count_of(len(lines), 'line')}, shown with --verbose", style="dim")
    code = Syntax(script, "python", theme="ansi_light", background_color="default", word_wrap=True)
    return Group(Text("reproduce:", style="dim"), Padding(code, (0, 0, 0, 2)))


def _notes(notes: Sequence[Finding]) -> Iterator[tuple[str, Text]]:
    """A code once, with the Functions that it is said of: most notes are said of many."""
    for code in dict.fromkeys(finding.code for finding in notes):
        same = [finding for finding in notes if finding.code == code]
        messages = dict.fromkeys(finding.message for finding in same)
        for message in messages:
            functions = dict.fromkeys(finding.function for finding in same if finding.message == message)
            yield code, Text.assemble((", ".join(functions), "bold"), ": ", _prose(message))


def _skipped(skipped: Sequence[Skipped]) -> Iterator[tuple[str, Text]]:
    """A reason once, with the checks that it kept from being made, of one Function or of how many."""
    together: dict[tuple[str, str], list[str]] = {}
    for function, reason in dict.fromkeys((skip.function, skip.reason) for skip in skipped):
        checks = dict.fromkeys(s.check for s in skipped if (s.function, s.reason) == (function, reason))
        together.setdefault((", ".join(checks), reason), []).append(function)
    for (checks_left_out, reason), functions in together.items():
        whose = functions[0] if len(functions) == 1 else f"{len(functions)} functions"
        yield whose, Text.assemble((checks_left_out, "bold"), ": ", _prose(reason))


def _print_section(console: Console, title: str, rows: list[tuple[str, Text]]) -> None:
    if rows:
        console.print()
        console.print(Text(title, "bold"))
        console.print(Padding(_pairs(rows), (0, 0, 0, 2)))


def _last_line(results: Results) -> Text:
    style = STYLES["error"] if results.failed else "bold green"
    line = Text.assemble((results.counts, style), f", in {results.seconds:.1f} s.")
    line.append("\nOther values, sizes and devices than these were not looked at.", "dim")
    codes = [finding.code for finding in worst_first(results.report.findings) if finding.severity != "note"]
    if codes:
        line.append(f"\nWhat a code means: gradsmith explain {codes[0]}", "dim")
    return line


def _row(cells: Sequence[tuple[str, str]]) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_row(*(Text(name, "dim") for name, _ in cells))
    grid.add_row(*(Text(value) for _, value in cells))
    return grid


def _pairs(rows: Sequence[tuple[str, Text]]) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in rows:
        grid.add_row(Text(name, "bold green" if name == "advice" else "dim"), value)
    return grid


def _prose(text: str) -> Text:
    prose = Text(text, overflow="fold")
    prose.highlight_regex(r"`[^`\n]+`", "bold")
    return prose
