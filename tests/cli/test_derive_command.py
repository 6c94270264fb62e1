"""`gradsmith derive`: what it prints, and how it refuses."""

from __future__ import annotations

import pytest

FUNCTIONS = """
import torch

def square(x, scale=1.0):
    return scale * x * x

def loss(x, y):
    return (x - y).abs().sum()

def sampled(x):
    return torch.nn.functional.dropout(x)

def failing(x):
    raise KeyError("nothing here")
"""


@pytest.fixture(autouse=True)
def _functions(write):
    write("functions_to_derive.py", FUNCTIONS)


def test_it_prints_source_that_runs(gradsmith):
    result = gradsmith("derive", "functions_to_derive:square", "--inputs", "torch.randn(3)")
    assert result.exit_code == 0, result.output
    namespace = {}
    exec(result.stdout, namespace)
    assert namespace["square"].saves("x") == ("x", "scale")


def test_the_source_goes_to_a_file_on_request(gradsmith, directory):
    options = ("--name", "distance", "--differentiable", "x", "--output", "distance.py")
    result = gradsmith("derive", "functions_to_derive:loss", "--inputs", "torch.randn(3), torch.randn(3)", *options)
    assert result.stdout == ""
    text = (directory / "distance.py").read_text()
    assert "def distance(x, y):" in text
    assert "y=" not in text


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("sampled", "there is no rule for torch's `dropout` ("),
        ("failing", "functions_to_derive:failing raised KeyError: 'nothing here' ("),
        ("missing", "has no 'missing'"),
    ],
)
def test_what_cannot_be_derived_is_one_clear_line(gradsmith, function, message):
    result = gradsmith("derive", f"functions_to_derive:{function}", "--inputs", "torch.randn(3)")
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
