"""Every finding code has a page, and what the page shows is so: its examples are run and checked."""

from __future__ import annotations

import importlib.util
import linecache
import re
import sys
from pathlib import Path

import pytest
import torch

from gradsmith.check.battery import check
from gradsmith.check.checks import CODES
from gradsmith.check.codes import CodeError, codes, near, page, pages
from gradsmith.check.findings import severity_of

DESIGN = Path(__file__).parents[3] / "docs" / "design.md"


def run(source, directory):
    """What a block leaves when it is imported from a file: the function to check, and its inputs."""
    torch.manual_seed(0)
    file = directory / "page_example.py"
    file.write_text(source)
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module  # torch.compile looks a Function's globals up by the module's name
    linecache.checkcache(str(file))
    spec.loader.exec_module(module)
    functions = [value for value in vars(module).values() if is_function(value)]
    return getattr(module, "fn", functions[-1] if functions else None), module.inputs


def is_function(value):
    return isinstance(value, type) and issubclass(value, torch.autograd.Function)


def test_the_pages_are_those_of_the_table_in_the_design():
    table = DESIGN.read_text().partition("## The finding codes")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert set(re.findall(r"`([a-z-]+)`", " ".join(rows))) == set(codes())


@pytest.mark.parametrize("code", CODES)
def test_every_code_that_a_check_gives_has_a_page_of_its_severity(code):
    assert page(code).severity == severity_of(code)


@pytest.mark.parametrize("code", codes())
def test_a_page_says_what_it_means_in_a_line_and_where_the_rule_comes_from(code):
    entry = page(code)
    assert 20 < len(entry.summary) <= 75
    assert "## Where the rule comes from" in entry.text
    assert max(map(len, entry.text.splitlines())) <= 120


@pytest.mark.parametrize("code", codes())
def test_the_bad_example_is_found(code, tmp_path):
    function, inputs = run(page(code).block("bad"), tmp_path)
    assert check(function, inputs, only=code).codes == (code,)


@pytest.mark.parametrize("code", codes())
def test_the_repaired_example_gives_nothing_worse_than_a_note(code, tmp_path):
    function, inputs = run(page(code).block("good"), tmp_path)
    report = check(function, inputs)
    assert [f for f in report.findings if f.severity != "note"] == []
    assert code not in report.codes


def test_errors_come_first_then_warnings_then_notes():
    severities = [entry.severity for entry in pages().values()]
    assert severities == sorted(severities, key=["error", "warning", "note"].index)


@pytest.mark.parametrize(
    ("written", "meant"),
    [("gradient_sign", "gradient-sign"), ("Gradient-Scale", "gradient-scale"), ("vmap", "vmap-wrong")],
)
def test_what_was_meant_is_suggested(written, meant):
    assert near(written)[0] == meant


def test_an_unknown_code_names_the_nearest():
    with pytest.raises(CodeError, match="unknown code 'gradient-sgn': did you mean gradient-sign"):
        page("gradient-sgn")
