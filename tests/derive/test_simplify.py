"""The algebra: what a formula is written as."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from shown import real

from gradsmith.derive import derive


def formula(forward, *inputs):
    """The text of the formula for the first argument, where it is one expression."""
    source = derive(forward, *inputs, differentiable=["x"]).source
    return source.split("x=lambda ", 1)[1].split(": ", 1)[1].splitlines()[0].removesuffix(")")


@pytest.mark.parametrize(
    ("forward", "text"),
    [
        (lambda x: x * 1, "grad"),
        (lambda x: x.neg().neg(), "grad"),
        (lambda x: x * -1, "-grad"),
        (lambda x: x + x, "2 * grad"),
        (lambda x: 3 * (2 * x), "6 * grad"),
        (lambda x: 0.5 * x**2, "grad * x"),
        (lambda x: x**2 - x, "grad * (2 * x - 1)"),
        (lambda x: x.mT.mT, "grad"),
        (lambda x: x.transpose(0, 1).mT, "grad"),
        (lambda x: x.reshape(-1).reshape(4, 3), "grad.reshape(x_shape)"),
        (lambda x: x.unsqueeze(0).squeeze(0), "grad"),
        (lambda x: (x * x).sum(), "2 * grad * x"),
        (lambda x: x.sum(), "grad.expand(x_shape)"),
        (lambda x: x.sum(-1), "grad.unsqueeze(-1).expand(x_shape)"),
        (lambda x: x.mean(), "(grad / x_shape.numel()).expand(x_shape)"),
        (lambda x: F.relu(x).sum(), "torch.where(torch.relu(x) > 0, grad, 0)"),
    ],
)
def test_a_formula_is_as_short_as_a_person_writes_it(forward, text):
    assert formula(forward, real(3, 4)) == text


def test_a_sum_over_broadcast_dimensions_only_where_something_is_broadcast():
    assert formula(lambda x, y: x * y, real(3, 4), real(3, 4)) == "grad * y"
    assert formula(lambda x, y: x * y, real(4), real(3, 4)) == "(grad * y).sum_to_size(x_shape)"


def test_the_output_is_used_where_the_formula_contains_it():
    for name in ("exp", "tanh", "sigmoid", "sqrt", "relu", "softmax"):
        forward = eval(f"lambda x: torch.{name}(x{', -1' if name == 'softmax' else ''})", {"torch": torch})
        assert derive(forward, real(3).abs()).op.saves("x") == ("out",)


def test_an_operation_that_two_formulas_share_is_not_lost():
    op = derive(lambda x, y: (x * y).exp() * (x * y), real(3), real(3)).op
    assert torch.autograd.gradcheck(op, [real(3).requires_grad_(), real(3).requires_grad_()])
