"""`gradsmith bench`: what it measures, prints and writes, and how it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import Result

from gradsmith.memory import is_reusing_memory

EXP = "gradsmith.catalog.exp:exp"
QUICK = ("--no-compile", "--seconds", "0")


def test_it_prints_a_table(gradsmith) -> None:
    result = gradsmith("bench", EXP, "--inputs", "torch.ones(1000)", "--reference", "torch:exp", *QUICK)
    assert result.exit_code == 0, result.output
    assert "exp  float32[1000]*" in result.stdout  # made to require a gradient
    assert "reference" in result.stdout
    assert "limit (memory)" in result.stdout


def test_inputs_that_ask_for_gradients_are_left_as_they_are(gradsmith) -> None:
    text = "torch.ones(3, requires_grad=True), torch.ones(3)"
    assert "float32[3]*, float32[3]\n" in gradsmith("bench", "torch:mul", "--inputs", text, *QUICK).stdout


def test_keyword_arguments_are_passed_on(gradsmith) -> None:
    result = gradsmith("bench", "torch:softmax", "--inputs", "torch.ones(3)", "--kwargs", "dim=0", *QUICK)
    assert "float32[3]*, 0" in result.stdout


def test_json_is_all_there_is_on_standard_output(gradsmith) -> None:
    result = gradsmith("bench", EXP, "--inputs", "torch.ones(10)", "--json", *QUICK)
    assert json.loads(result.stdout)["function"] == "exp"


def test_sizes_give_a_row_each_and_a_picture(gradsmith, directory: Path) -> None:
    pytest.importorskip("matplotlib")
    sizes = ("--sizes", "10,100", "--plot", "exp.png")
    result = gradsmith("bench", EXP, "--inputs", "torch.ones(n),", *sizes, *QUICK)
    assert result.exit_code == 0, result.output
    assert [line.split()[0] for line in result.stdout.splitlines()[2:4]] == ["10", "100"]
    assert (directory / "exp.png").read_bytes().startswith(b"\x89PNG")


def test_the_table_goes_to_a_file_on_request(gradsmith, directory: Path) -> None:
    result = gradsmith("bench", EXP, "--inputs", "torch.ones(10)", "--output", "exp.txt", *QUICK)
    assert result.stdout == ""
    assert "limit (memory)" in (directory / "exp.txt").read_text()


def test_memory_is_reused_for_as_long_as_it_measures(gradsmith) -> None:
    result = gradsmith("bench", EXP, "--inputs", "torch.ones(10)", "--reuse-memory", "--json", *QUICK)
    assert json.loads(result.stdout)["machine"]["memory"] == "recycled"
    assert not is_reusing_memory()


def test_threads_are_those_asked_for(gradsmith) -> None:
    result = gradsmith("bench", EXP, "--inputs", "torch.ones(10)", "--threads", "2", "--json", *QUICK)
    assert json.loads(result.stdout)["machine"]["threads"] == 2
    torch.set_num_threads(1)


def refused(result: Result, *words: str) -> None:
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    for word in words:
        assert word in result.output


def test_what_cannot_be_run_is_one_clear_line(gradsmith, write) -> None:
    write("mine.py", "def broken(x):\n    raise ValueError('no luck')\ndef nothing(x):\n    return None")
    ten = ("--inputs", "torch.ones(10)", *QUICK)
    refused(gradsmith("bench", "mine:broken", *ten), "mine:broken", "ValueError: no luck", "mine.py:2")
    refused(gradsmith("bench", "mine:nothing", *ten), "nothing returns no tensor")
    refused(gradsmith("bench", "mine:missing", *ten), "has no 'missing'")
    refused(gradsmith("bench", EXP, "--inputs", "torch.ones(", *QUICK), "--inputs 'torch.ones(' cannot be evaluated")
    refused(gradsmith("bench", EXP, "--inputs", "torch.ones(n)", *QUICK), "NameError", "n")
    refused(gradsmith("bench", EXP, *ten, "--output", "no/such/folder"), "cannot be written")


def test_options_that_do_not_fit_are_usage_errors(gradsmith) -> None:
    refused(gradsmith("bench", EXP), "Missing option '--inputs'")
    refused(gradsmith("bench", EXP, "--inputs", "torch.ones(1)", "--plot", "a.png"), "--plot needs --sizes")
    refused(gradsmith("bench", EXP, "--inputs", "torch.ones(n)", "--sizes", "1,x"), "no list of positive integers")
    refused(gradsmith("bench", EXP, "--inputs", "torch.ones(n)", "--sizes", "0"), "no list of positive integers")


def test_a_picture_that_cannot_be_written_is_told(gradsmith) -> None:
    pytest.importorskip("matplotlib")
    arguments = ("--inputs", "torch.ones(n)", "--sizes", "10", *QUICK)
    refused(gradsmith("bench", EXP, *arguments, "--plot", "no/such/a.png"), "no/such/a.png cannot be written")
    refused(gradsmith("bench", EXP, *arguments, "--plot", "a.what"), "a.what cannot be written")
