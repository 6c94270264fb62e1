"""Rounding, sign and step: their values at the points where libraries disagree, and their gradients."""

import pytest
import torch
from routes import POINTS, assert_differentiates_as, slope

from gradsmith import surrogates as s


@pytest.mark.parametrize(
    ("op", "plain"),
    [(s.round_ste, torch.round), (s.floor_ste, torch.floor), (s.ceil_ste, torch.ceil), (s.trunc_ste, torch.trunc)],
)
def test_rounding_has_the_value_of_torch_and_lets_the_gradient_pass(op, plain):
    assert torch.equal(op(POINTS), plain(POINTS))
    assert_differentiates_as(op, lambda x: x * 1, POINTS)


def test_halves_are_rounded_to_the_even_integer():
    assert torch.equal(s.round_ste(torch.tensor([0.5, 1.5, 2.5, -0.5])), torch.tensor([0.0, 2.0, 2.0, -0.0]))


def test_the_binary_sign_of_both_zeros_is_one():
    x = torch.tensor([-0.1, -0.0, 0.0, 0.1])
    assert torch.equal(s.sign_ste(x), torch.tensor([-1.0, 1.0, 1.0, 1.0]))


def test_the_ternary_sign_of_zero_is_zero():
    x = torch.tensor([-0.1, -0.0, 0.0, 0.1])
    assert torch.equal(s.sign_ste(x, ternary=True), torch.tensor([-1.0, 0.0, 0.0, 1.0]))


@pytest.mark.parametrize("ternary", [False, True])
def test_the_sign_has_the_gradient_one_within_one_and_zero_beyond(ternary):
    expected = (POINTS.abs() <= 1).double()
    assert torch.equal(slope(lambda x: s.sign_ste(x, ternary), POINTS), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("op", [s.sign_ste, s.round_ste, s.heaviside])
def test_dtype_and_shape_are_kept(op, dtype):
    for shape in ((), (0,), (2, 3)):
        x = torch.randn(shape, dtype=dtype, requires_grad=True)
        (grad,) = torch.autograd.grad(op(x).sum(), x)
        assert (op(x).dtype, op(x).shape, grad.dtype, grad.shape) == (dtype, shape, dtype, shape)


def test_the_step_of_both_zeros_is_one():
    assert torch.equal(s.heaviside(torch.tensor([-0.1, -0.0, 0.0, 0.1])), torch.tensor([0.0, 1.0, 1.0, 1.0]))


def test_the_step_is_differentiated_by_the_curve_that_is_given():
    curve = s.triangle(0.5)
    torch.testing.assert_close(slope(lambda x: s.heaviside(x, curve), POINTS), curve.derivative(POINTS))
    own = s.Curve("linear", lambda u: u, lambda u: u.square() / 2)
    torch.testing.assert_close(slope(lambda x: s.heaviside(x, own), POINTS), POINTS)
