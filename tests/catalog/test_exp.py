"""exp: its derivative is its output."""

import pytest
import torch
from agreement import assert_agrees, saved_bytes
from torch.autograd import gradcheck, gradgradcheck

from gradsmith.catalog import exp


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex128])
def test_value_and_derivatives_are_those_of_torch(dtype):
    assert_agrees(exp, torch.exp, (torch.randn(3, 4, dtype=dtype),))


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_numerical_differentiation_agrees(dtype):
    x = torch.randn(5, dtype=dtype, requires_grad=True)
    assert gradcheck(exp, x, check_forward_ad=True)
    assert gradgradcheck(exp, x)


def test_applied_twice_it_gives_the_numbers_of_the_tutorial():
    x = torch.tensor([3.0, 4.0], dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(exp(exp(x)).sum(), x)
    torch.testing.assert_close(grad, torch.tensor([1.0615e10, 2.8109e25], dtype=torch.float64), rtol=1e-4, atol=0)


def test_it_saves_the_output_and_nothing_else():
    x = torch.randn(100, requires_grad=True)
    assert exp.saves() == ("out",)
    assert saved_bytes(lambda: exp(x)) == 100 * 4


@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3)])
def test_scalars_and_empty_tensors_have_gradients_of_their_shape(shape):
    x = torch.randn(shape, requires_grad=True)
    assert torch.autograd.grad(exp(x).sum(), x)[0].shape == shape


def test_integers_give_floats_without_a_gradient():
    out = exp(torch.tensor([0, 1]))
    assert out.dtype == torch.get_default_dtype()
    assert not out.requires_grad
