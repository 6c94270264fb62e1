"""`gradsmith.testing.assert_gradients`."""

from __future__ import annotations

import pytest
import torch
from squares import Right, Wrong

from gradsmith.testing import assert_gradients


class Careless(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.positive = x > 0
        return x * ctx.positive

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.positive


X = torch.tensor([0.3, -0.7, 1.1], dtype=torch.float64, requires_grad=True)


def test_right_gradients_pass():
    assert_gradients(Right, (X,))
    assert_gradients(lambda x: Right.apply(x).sum(), X)


def test_wrong_gradients_fail_with_the_report():
    with pytest.raises(AssertionError, match=r"error\[gradient-sign\] in Wrong, argument x"):
        assert_gradients(Wrong, (X,))


def test_warnings_fail_only_where_that_is_asked_for():
    assert_gradients(Careless, (X,))
    with pytest.raises(AssertionError, match=r"warning\[unhooked-save\] in Careless"):
        assert_gradients(Careless, (X,), strict=True)


def test_codes_can_be_chosen_and_unknown_ones_are_refused():
    assert_gradients(Wrong, (X,), skip="gradient-sign")
    with pytest.raises(ValueError, match="unknown code 'gradient-sgn'"):
        assert_gradients(Wrong, (X,), only="gradient-sgn")


def test_a_reference_decides():
    assert_gradients(Wrong, (X,), reference=lambda x: -x * x)
