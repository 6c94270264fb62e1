"""Functions are compared before their speeds are."""

from __future__ import annotations

import pytest
import torch

from gradsmith.define.op import op
from gradsmith.profile.agreement import difference
from gradsmith.profile.work import ProfileError, Work


def apart(fn: object, reference: object, *inputs: torch.Tensor) -> float:
    return difference(Work("fn", fn, inputs), Work("reference", reference, inputs))  # type: ignore[arg-type]


def x() -> torch.Tensor:
    return torch.linspace(1, 2, 10, dtype=torch.float64).requires_grad_()


def test_the_same_function_does_not_differ() -> None:
    assert apart(torch.exp, torch.exp, x()) == 0


def test_another_output_differs_by_its_part() -> None:
    assert apart(lambda x: 1.001 * x.exp(), torch.exp, x()) == pytest.approx(1e-3)


def test_a_wrong_gradient_behind_a_right_output_is_seen() -> None:
    wrong = op(torch.exp, x=lambda grad, out: 1.1 * grad * out)
    assert apart(wrong, torch.exp, x()) == pytest.approx(0.1)


def test_random_functions_start_from_the_same_state() -> None:
    assert apart(torch.nn.functional.dropout, torch.nn.functional.dropout, x()) == 0


def test_nan_on_both_sides_agrees_and_on_one_side_does_not() -> None:
    assert apart(lambda x: x.mul(float("nan")), lambda x: x.mul(float("nan")), x().detach()) == 0
    assert apart(lambda x: x.mul(float("nan")), torch.exp, x().detach()) == float("inf")


def test_other_shapes_are_an_error() -> None:
    with pytest.raises(ProfileError, match=r"fn and reference do not return the same: shapes \[\(\), .* against"):
        apart(lambda x: x.sum(), torch.exp, x())
