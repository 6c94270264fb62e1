"""Where reports go, and what keeps them apart from what the checked program prints."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from gradsmith.check.report import Results, github, html, json, junit, text
from gradsmith.cli.problem import Problem

FORMATS: dict[str, Callable[[Results], str]] = {
    "json": json.render,
    "github": github.render,
    "junit": junit.render,
}


def write(results: Results, form: str, output: Path | None, page: Path | None, *, verbose: bool) -> None:
    """Write the report in `form` to `output` (standard output without one), and the HTML page to `page`."""
    if page is not None:
        write_file(page, html.render(results))
    if form == "text" and not results.outcomes:
        return  # the problems are on standard error, and there is nothing else to say
    if form != "text":
        document = FORMATS[form](results)
    elif output is None and (console := Console()).is_terminal:
        text.show(results, console, verbose=verbose)
        return
    else:
        document = text.render(results, verbose=verbose)
    if output is None:
        encoding = sys.stdout.encoding or "utf-8"  # one that has not every character must not end in a traceback
        click.echo(document.encode(encoding, "replace").decode(encoding), nl=False)
    else:
        write_file(output, document)


def write_file(path: Path, document: str) -> None:
    """Write `document`, or say in a line why that cannot be done."""
    try:
        path.write_text(document, encoding="utf-8")
    except OSError as error:
        raise Problem(f"{path} cannot be written: {error.strerror}") from error


@contextmanager
def program_output(aside: bool) -> Iterator[None]:
    """Let the program print where it likes; with `aside`, standard output goes to standard error instead.

    That keeps a machine-readable report on standard output whole. Child processes and C code write to the
    descriptor, so that is moved as well.
    """
    if not aside:
        yield
        return
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def progress_bar() -> Progress:
    """A bar on standard error, shown only where that is a terminal, and gone when all is done."""
    console = Console(stderr=True)
    columns = (
        TextColumn("checking [bold]{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
