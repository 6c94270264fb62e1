"""Runs the command in this process, in an empty directory, on programs that a test writes there."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from squares import program

from gradsmith.cli import main

Command = Callable[..., Result]
Write = Callable[..., Path]

WRONG, RIGHT = program("Wrong"), program("Right")


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    return tmp_path


@pytest.fixture
def gradsmith() -> Command:
    def run(*arguments: str, stdin: str | None = None) -> Result:
        return CliRunner().invoke(main, list(arguments), input=stdin, prog_name="gradsmith")

    return run


@pytest.fixture
def write(directory: Path) -> Write:
    """Write a program of the given parts; `wrong` and `right` stand for a Function of that kind."""

    def write(name: str, *parts: str) -> Path:
        known = {"wrong": WRONG, "right": RIGHT}
        file = directory / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(known.get(part, textwrap.dedent(part)) for part in parts))
        return file

    return write
