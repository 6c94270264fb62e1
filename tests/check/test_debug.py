"""`gs.debug` checks Functions at their first call, while a program runs."""

import pytest
import torch
from squares import Right, Wrong

import gradsmith as gs


def test_a_wrong_function_stops_the_program_at_its_first_call():
    x = torch.randn(4, requires_grad=True)
    with pytest.raises(gs.GradientError, match="gradient-sign") as caught, gs.debug():
        Wrong.apply(x)
    assert "gradient-sign" in caught.value.report.codes


def test_right_functions_run_undisturbed():
    torch.manual_seed(0)
    expected = Right.apply(torch.randn(4)), torch.rand(3)
    torch.manual_seed(0)
    with gs.debug() as recording:
        got = Right.apply(torch.randn(4, requires_grad=True)).detach(), torch.rand(3)
        Right.apply(torch.randn(4, requires_grad=True))
    torch.testing.assert_close(got, expected)
    assert [case.name for case in recording.cases] == ["Right"]
