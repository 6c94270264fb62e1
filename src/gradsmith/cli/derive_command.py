"""`gradsmith derive TARGET --inputs …`: print the source of an op with a formula per argument."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import torch

from gradsmith.cli import target
from gradsmith.cli.output import write_file
from gradsmith.cli.problem import Problem, describe
from gradsmith.derive import DeriveError
from gradsmith.derive import derive as derive_source


@click.command()
@click.argument("name", metavar="TARGET")
@click.option(
    "--inputs", metavar="EXPR", required=True, help="An example of its arguments, as 'torch.randn(4, 3), 2.0'."
)
@click.option("--differentiable", metavar="NAME", multiple=True, help="An argument to get a formula; repeatable.")
@click.option("--name", "label", metavar="NAME", help="What the op is called; the function's own name by default.")
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write the source there."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of torch for --inputs.")
def derive(
    name: str, inputs: str, differentiable: tuple[str, ...], label: str | None, output: Path | None, seed: int
) -> None:
    """Print the source of an op for a plain function: itself, and a formula for the gradient of each argument.

    TARGET is package.module:function, written in torch operations. The source is ready to be run and
    edited; its gradients were compared with autograd's for the example.

    Exit status: 0, or 2 when the function could not be traced or differentiated.
    """
    torch.manual_seed(seed)
    try:
        source = _derived(name, inputs, differentiable, label)
        if output is None:
            click.echo(source, nl=False)
        else:
            write_file(output, source)
    except Problem as problem:
        click.echo(f"gradsmith: {problem}", err=True)
        sys.exit(2)


def _derived(name: str, inputs: str, differentiable: tuple[str, ...], label: str | None) -> str:
    function = target.load(name)
    example = target.evaluate_inputs(inputs)
    try:
        return derive_source(function, *example, differentiable=differentiable or None, name=label).source
    except DeriveError as error:
        raise Problem(str(error)) from error
    except Exception as error:  # The isolation boundary: the function is the user's and may raise anything.
        raise Problem(f"{name} raised {describe(error)} on {inputs!r}") from error
