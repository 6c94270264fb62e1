"""`gradsmith explain [CODE]`: print the page of a finding code, or the list of all codes."""

from __future__ import annotations

from itertools import groupby

import click
from rich.console import Console
from rich.markdown import Markdown
from rich.table import Table
from rich.text import Text

from gradsmith.check.codes import CodeError, page, pages
from gradsmith.check.report.text import STYLES


@click.command()
@click.argument("code", required=False)
def explain(code: str | None) -> None:
    """Explain a finding CODE: what it means, a minimal example, its repair, and the source of the rule.

    Without CODE, list all codes.
    """
    console = Console()
    if code is None:
        _list(console)
        return
    try:
        text = page(code).text
    except CodeError as error:
        raise click.UsageError(str(error)) from None
    if console.is_terminal:
        console.print(Markdown(text, code_theme="ansi_dark"))
    else:
        click.echo(text, nl=False)


def _list(console: Console) -> None:
    for severity, group in groupby(pages().values(), key=lambda page: page.severity):
        console.print(Text(f"{severity}s", STYLES[severity]))
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True)
        for entry in group:
            table.add_row(Text("  " + entry.code, "bold"), entry.summary)
        console.print(table)
        console.print()
