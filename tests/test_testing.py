"""`gradsmith.testing`: `assert_gradients`, and the strategy of inputs."""

from __future__ import annotations

import pytest
import torch
from hypothesis import find, given, settings
from squares import Right, Wrong

from gradsmith.testing import assert_gradients, inputs


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


@given(inputs("... n k", "m k", "", "3", sizes=(0, 3), values=(0.5, 1.0), dtypes=(torch.float32, torch.float64)))
def test_inputs_share_their_sizes_batch_and_dtype(drawn):
    x, weight, scalar, three = drawn
    assert x.shape[-1] == weight.shape[-1]
    assert 2 <= x.dim() <= 4
    assert (weight.dim(), scalar.shape, three.shape) == (2, (), (3,))
    assert len({tensor.dtype for tensor in drawn}) == 1
    assert all(tensor.requires_grad and tensor.is_leaf for tensor in drawn)
    assert all(((tensor >= 0.5) & (tensor <= 1)).all() for tensor in drawn)


@pytest.mark.parametrize(
    "found",
    [
        lambda x: not x.is_contiguous() and x.mT.is_contiguous(),
        lambda x: x.storage_offset() > 0,
        lambda x: x.is_contiguous() and x.shape == (4, 4),
        lambda x: x.numel() == 1,
    ],
)
def test_inputs_vary_in_layout_and_size(found):
    find(inputs("n m"), lambda drawn: found(drawn[0]))


@settings(max_examples=4, deadline=None)
@given(inputs("... n"))
def test_inputs_are_what_assert_gradients_takes(arguments):
    assert_gradients(Right, arguments, only="gradient-scale")


@pytest.mark.parametrize("shape", ["n-1", "n ...", "(3,)", "-1"])
def test_a_shape_that_says_nothing_is_refused(shape):
    with pytest.raises(ValueError, match="is neither a name, a number nor a leading"):
        inputs(shape)


def test_an_empty_range_is_refused():
    with pytest.raises(ValueError, match=r"nothing lies in sizes=\(3, 2\)"):
        inputs("n", sizes=(3, 2))
