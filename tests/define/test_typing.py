"""Editors and type checkers see the signature of the forward."""

import pytest
from mypy import api

PROGRAM = '''
import torch
from torch import Tensor
from typing import assert_type
import gradsmith as gs

@gs.op(x=lambda grad: grad)
def scale(x: Tensor, factor: float = 2.0) -> Tensor:
    return x * factor

assert_type(scale(torch.ones(2)), Tensor)
assert_type(scale(torch.ones(2), factor=3.0), Tensor)
assert_type(scale.apply(torch.ones(2)), Tensor)
assert_type(gs.straight_through(torch.round).saves(), tuple[str, ...])
'''


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("", None),
        ("scale(3)", 'Argument 1 to "__call__" of "Op" has incompatible type "int"; expected "Tensor"'),
        ("scale(torch.ones(2), fctor=1.0)", 'Unexpected keyword argument "fctor"'),
        ("scale()", "Too few arguments|Missing positional argument"),
    ],
)
def test_a_call_is_checked_against_the_forward(line, error, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM + line + "\n")
    out, _, code = api.run([str(program), "--python-version", "3.11", "--cache-dir", str(tmp_path.parent / "cache")])
    if error is None:
        assert code == 0, out
    else:
        assert any(one in out for one in error.split("|")), out
