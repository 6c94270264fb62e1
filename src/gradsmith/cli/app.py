"""The `gradsmith` command: its sub-commands, and the settings that pyproject.toml gives them."""

from __future__ import annotations

from typing import Any

import click

from gradsmith.cli.bench_command import bench
from gradsmith.cli.check_command import OWN_PROCESS, check
from gradsmith.cli.derive_command import derive
from gradsmith.cli.explain_command import explain


class _Program(click.Group):
    """Called as a program, and not from Python, it may run each target in a process of its own."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.main(*args, obj=OWN_PROCESS, **kwargs)


@click.group(cls=_Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="gradsmith")
def main() -> None:
    """Custom gradients for PyTorch: check those of a program, and explain what was found."""


main.add_command(bench)
main.add_command(check)
main.add_command(derive)
main.add_command(explain)
