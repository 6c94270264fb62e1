"""`gradsmith check TARGET... [-- script args]`: the options, and what their values mean."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from gradsmith.check.checks import CODES
from gradsmith.check.codes import codes, unknown
from gradsmith.cli import baseline, settings, target
from gradsmith.cli.accept import Accepted
from gradsmith.cli.options import Options
from gradsmith.cli.output import FORMATS, write
from gradsmith.cli.problem import Problem
from gradsmith.cli.session import Session

OWN_PROCESS = "own process"  # the context's object where this process is the command's, to be forked as it likes
FILE = click.Path(dir_okay=False, path_type=Path)


class _Command(click.Command):
    """Takes the arguments after `--` for the scripts, and the defaults from pyproject.toml."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own, theirs = _split(args)
        try:
            table = settings.read(Path.cwd())
        except Problem as problem:
            raise click.UsageError(str(problem), ctx) from problem
        ctx.meta["arguments"] = tuple(theirs)
        ctx.meta["allow"] = table.pop("allow", [])
        ctx.default_map = {**table, **(ctx.default_map or {})}
        return super().parse_args(ctx, own)


def _split(args: list[str]) -> tuple[list[str], list[str]]:
    cut = args.index("--") if "--" in args else len(args)
    return args[:cut], args[cut + 1 :]


def _codes(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    for code in values:
        if code not in codes():
            raise click.BadParameter(unknown(code), ctx, parameter)
        if code not in CODES:
            raise click.BadParameter(f"no check looks for {code} yet", ctx, parameter)
    return values


@click.command(cls=_Command)
@click.argument("targets", nargs=-1, required=True, metavar="TARGET... [-- SCRIPT ARGUMENTS]")
@click.option("--inputs", metavar="EXPR", help="Arguments for module:Name, as 'torch.randn(4, 3), 2.0'.")
@click.option("--kwargs", metavar="EXPR", default="", help="Keyword arguments for it, as 'bias=None, eps=1e-5'.")
@click.option("--only", metavar="CODE", multiple=True, callback=_codes, help="Look for this code; repeatable.")
@click.option("--skip", metavar="CODE", multiple=True, callback=_codes, help="Leave this code out; repeatable.")
@click.option("--strict", is_flag=True, help="Let warnings fail the run, too.")
@click.option("--format", "form", type=click.Choice(["text", *FORMATS]), default="text", show_default=True)
@click.option("--output", type=FILE, metavar="FILE", help="Write the report there instead of standard output.")
@click.option("--html", type=FILE, metavar="FILE", help="Write the report as a web page, too.")
@click.option("-v", "--verbose", is_flag=True, help="Show every script that reproduces a finding, and every note.")
@click.option("-j", "--jobs", type=click.IntRange(1), default=1, help="Check so many Functions at a time.")
@click.option(
    "--budget",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="For each Function and input.",
)
@click.option(
    "--memory",
    type=click.FloatRange(0, min_open=True),
    metavar="GIB",
    help="For each Function; most of what is free by default.",
)
@click.option("--limit", type=click.IntRange(1), default=3, show_default=True, help="Different inputs a Function.")
@click.option("--seed", type=int, help="Seed torch, NumPy and random first (module:Name: 0 by default).")
@click.option("--baseline", type=FILE, metavar="FILE", help="Accept the findings that stand there.")
@click.option("--write-baseline", type=FILE, metavar="FILE", help="Accept all findings: write them there.")
@click.pass_context
def check(ctx: click.Context, /, targets: tuple[str, ...], **options: Any) -> None:
    """Check every custom gradient that a program uses.

    A TARGET is a script, a notebook, a directory of them, a module (run as `python -m` would) or one name,
    package.module:Name, with --inputs. Programs run unchanged; each custom Function that they call is
    recorded with real arguments and then checked.

    Exit status: 0 nothing wrong, 1 errors found, 2 something could not be run.
    """
    if (options["inputs"] or options["kwargs"]) and not any(map(target.is_name, targets)):
        raise click.UsageError("--inputs and --kwargs are for package.module:Name", ctx)
    try:
        session = _session(ctx, options)
    except Problem as problem:
        raise click.UsageError(str(problem), ctx) from problem
    session.check(targets)
    results = session.results(" ".join(targets), strict=options["strict"])
    try:
        if options["write_baseline"] is not None:
            count = baseline.write(options["write_baseline"], results.report.findings)
            click.echo(f"gradsmith: wrote {count} findings to {options['write_baseline']}", err=True)
            sys.exit(2 if results.problems else 0)
        write(results, options["form"], options["output"], options["html"], verbose=options["verbose"])
    except Problem as problem:
        _say(str(problem))
        sys.exit(2)
    sys.exit(results.exit_code)


def _session(ctx: click.Context, options: dict[str, Any]) -> Session:
    return Session(
        Options(options["only"], options["skip"], options["budget"], options["jobs"], options["memory"]),
        limit=options["limit"],
        seed=options["seed"],
        arguments=ctx.meta["arguments"],
        inputs=options["inputs"],
        kwargs=options["kwargs"],
        accepted=Accepted.of(ctx.meta["allow"], options["baseline"]),
        quiet=options["form"] != "text" and options["output"] is None,
        apart=ctx.obj == OWN_PROCESS,
        say=_say,
    )


def _say(sentence: str) -> None:
    click.echo(f"gradsmith: {sentence}", err=True)
