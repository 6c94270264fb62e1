"""grad_reverse, grad_scale and grad_clip: the argument's value, another gradient."""

import pytest
import torch
from routes import POINTS, assert_differentiates_as
from torch import nn

from gradsmith import CallError, MissingFormula
from gradsmith.surrogates import grad_clip, grad_reverse, grad_scale

ALL = [grad_reverse, lambda x: grad_scale(x, 2.0), lambda x: grad_clip(x, value=1.0), lambda x: grad_clip(x, norm=1.0)]


@pytest.mark.parametrize("modifier", ALL)
def test_the_value_is_the_argument_in_new_memory(modifier):
    out = modifier(POINTS)
    assert torch.equal(out, POINTS)
    assert out.data_ptr() != POINTS.data_ptr()


@pytest.mark.parametrize("modifier", ALL)
def test_an_in_place_operation_may_follow(modifier):
    layer = nn.Linear(3, 3)
    x = torch.randn(2, 3)
    modifier(layer(x)).relu_().sum().backward()
    assert layer.weight.grad is not None


def test_reversal_and_scaling_are_linear_and_right_by_every_route():
    assert_differentiates_as(grad_reverse, lambda x: -x, POINTS)
    assert_differentiates_as(lambda x: grad_reverse(x, 0.1), lambda x: -0.1 * x, POINTS)
    assert_differentiates_as(lambda x: grad_scale(x, 3.0), lambda x: 3 * x, POINTS)


def test_clipping_by_value_brings_every_element_into_the_range():
    x, upstream = torch.zeros(4, requires_grad=True), torch.tensor([-5.0, -0.5, 0.5, 5.0])
    (grad,) = torch.autograd.grad(grad_clip(x, value=1.0), x, upstream)
    assert torch.equal(grad, torch.tensor([-1.0, -0.5, 0.5, 1.0]))


@pytest.mark.parametrize(("length", "expected"), [(10.0, 2.0), (2.0, 2.0), (0.5, 0.5), (0.0, 0.0)])
def test_clipping_by_norm_shortens_what_is_longer_and_nothing_else(length, expected):
    x, direction = torch.zeros(2, requires_grad=True), torch.tensor([0.6, 0.8])
    (grad,) = torch.autograd.grad(grad_clip(x, norm=2.0), x, direction * length)
    torch.testing.assert_close(grad, direction * expected)


def test_under_vmap_each_example_is_clipped_by_its_own_norm():
    x = torch.tensor([[3.0, 4.0], [0.3, 0.4]])
    rows = torch.func.vmap(torch.func.grad(lambda v: (grad_clip(v, norm=1.0).square() / 2).sum()))(x)
    torch.testing.assert_close(rows, torch.tensor([[0.6, 0.8], [0.3, 0.4]]))


def test_a_second_derivative_goes_through_the_clipping():
    x = torch.tensor([0.2, 30.0], requires_grad=True)
    (grad,) = torch.autograd.grad((0.1 * grad_clip(x, value=1.0) ** 2).sum(), x, create_graph=True)
    torch.testing.assert_close(grad, torch.tensor([0.04, 1.0]))
    torch.testing.assert_close(torch.autograd.grad(grad.sum(), x)[0], torch.tensor([0.2, 0.0]))


def test_forward_mode_has_no_gradient_to_clip_and_is_refused():
    with pytest.raises(MissingFormula, match="forward mode"):
        torch.func.jvp(lambda v: grad_clip(v, value=1.0), (torch.ones(2),), (torch.ones(2),))


@pytest.mark.parametrize("limits", [{}, {"value": 1.0, "norm": 1.0}, {"value": 0.0}, {"norm": -1.0}])
def test_clipping_wants_one_positive_limit(limits):
    with pytest.raises(CallError, match="positive value= or a positive norm="):
        grad_clip(torch.ones(2), **limits)
