"""`gradsmith bench TARGET`: what a function with its gradient costs, beside a reference and the machine's limit."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import torch
from rich.console import Console

from gradsmith.cli import target
from gradsmith.cli.output import write_file
from gradsmith.cli.problem import Problem, describe
from gradsmith.memory import reuse_memory
from gradsmith.profile import Profile, ProfileError, Sweep, profile, sweep

FILE = click.Path(dir_okay=False, path_type=Path)


def _sizes(ctx: click.Context, parameter: click.Parameter, value: str | None) -> list[int]:
    try:
        sizes = [int(part) for part in value.split(",")] if value else []
    except ValueError:
        sizes = [0]
    if sizes and min(sizes) < 1:
        raise click.BadParameter(f"{value!r} is no list of positive integers, as 256,1024,4096", ctx, parameter)
    return sizes


@click.command()
@click.argument("name", metavar="TARGET")
@click.option("--inputs", metavar="EXPR", required=True, help="Its arguments, as 'torch.randn(n, 1024)'.")
@click.option("--kwargs", metavar="EXPR", default="", help="Keyword arguments, as 'reduction=\"sum\"'.")
@click.option("--reference", metavar="TARGET", help="What to compare with, as torch.nn.functional:cross_entropy.")
@click.option("--sizes", callback=_sizes, metavar="N,N,...", help="Values of n in --inputs, a profile for each.")
@click.option("--plot", type=FILE, metavar="FILE", help="With --sizes: write a picture there (PNG, SVG, PDF).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.option("--output", type=FILE, metavar="FILE", help="Write there instead of to standard output.")
@click.option("--seconds", type=click.FloatRange(0), default=3.0, show_default=True, help="Time a profile takes.")
@click.option("--compile/--no-compile", default=True, help="Measure torch.compile(reference), too.")
@click.option("--threads", type=click.IntRange(1), help="Threads of torch.")
@click.option("--reuse-memory", "reuse", is_flag=True, help="Keep and reuse freed memory; see gs.reuse_memory.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of torch for --inputs.")
@click.pass_context
def bench(ctx: click.Context, /, name: str, **options: Any) -> None:
    """Measure what a function with its gradient costs.

    TARGET is package.module:Name. It is timed forward and backward in turn with the reference and the
    compiled reference, and the bytes that it saves and its peak memory are counted. If no tensor of
    --inputs requires a gradient, all floating-point ones are made to.

    Exit status: 0, or 2 when something could not be run.
    """
    if options["plot"] is not None and not options["sizes"]:
        raise click.UsageError("--plot needs --sizes", ctx)
    if options["threads"] is not None:
        torch.set_num_threads(options["threads"])
    torch.manual_seed(options["seed"])
    try:
        with reuse_memory() if options["reuse"] else contextlib.nullcontext():
            result = _measure(name, options)
        if options["plot"] is not None and isinstance(result, Sweep):
            _plot(result, options["plot"])
        _write(result, options["as_json"], options["output"])
    except Problem as problem:
        click.echo(f"gradsmith: {problem}", err=True)
        sys.exit(2)


def _measure(name: str, options: dict[str, Any]) -> Profile | Sweep:
    function = target.load(name)
    reference = target.load(options["reference"]) if options["reference"] else None
    keywords = target.evaluate_kwargs(options["kwargs"])
    make = _maker(options["inputs"])
    settings = {"kwargs": keywords, "compiled": options["compile"], "seconds": options["seconds"]}
    try:
        if options["sizes"]:
            return sweep(function, make, options["sizes"], reference, before=_say_size, **settings)
        return profile(function, make(None), reference, **settings)
    except ProfileError as error:
        raise Problem(str(error)) from error
    except Problem:
        raise
    except Exception as error:  # The isolation boundary: the functions are the user's and may raise anything.
        raise Problem(f"{name} or its reference raised {describe(error)} on {options['inputs']!r}") from error


def _maker(text: str) -> Callable[[int | None], tuple[Any, ...]]:
    """The arguments that the expression describes, as a function of n; without a size there is no n."""

    def make(n: int | None) -> tuple[Any, ...]:
        bound = text if n is None else f"(lambda n: ({text.rstrip().rstrip(',')},))({n})"
        args = target.evaluate_inputs(bound)
        tensors = [arg for arg in args if isinstance(arg, torch.Tensor)]
        if not any(tensor.requires_grad for tensor in tensors):
            for tensor in tensors:
                tensor.requires_grad_(tensor.is_floating_point() or tensor.is_complex())
        return args

    return make


def _say_size(n: int) -> None:
    if sys.stderr.isatty():
        click.echo(f"measuring n = {n} …", err=True)


def _plot(found: Sweep, path: Path) -> None:
    try:
        found.plot(path)
    except ProfileError as error:
        raise Problem(str(error)) from error
    except (OSError, ValueError) as error:  # an unknown suffix is a ValueError
        raise Problem(f"{path} cannot be written: {error}") from error


def _write(result: Profile | Sweep, as_json: bool, output: Path | None) -> None:
    if output is not None:
        write_file(output, (result.to_json() if as_json else str(result)) + "\n")
    elif as_json:
        click.echo(result.to_json())
    elif (console := Console()).is_terminal:
        console.print(result)
    else:
        click.echo(str(result))
