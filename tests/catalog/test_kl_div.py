"""kl_div: torch's values and derivatives, and no more saved than the target."""

import math

import pytest
import torch
from agreement import assert_agrees, gradients, saved_bytes
from half_precision import DTYPES, assert_within_rounding
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional

from gradsmith.catalog import kl_div

pytestmark = pytest.mark.filterwarnings("ignore:reduction. 'mean' divides the total loss")
REDUCTIONS = ("none", "sum", "mean", "batchmean")


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.integers(1, 4), max_size=3),
    st.booleans(),
    st.sampled_from(REDUCTIONS),
    st.booleans(),
    st.integers(0, 99),
)
def test_value_and_derivatives_are_those_of_torch(shape, broadcast, reduction, log_target, seed):
    generator = torch.Generator().manual_seed(seed)
    draw = lambda shape: torch.rand(shape, generator=generator, dtype=torch.float64) + 0.1
    inputs = draw(shape).log(), draw(shape[1:] if broadcast else shape)
    ours, theirs = (
        lambda x, t, f=f: f(x, t, reduction=reduction, log_target=log_target) for f in (kl_div, functional.kl_div)
    )
    assert_agrees(ours, theirs, inputs, exact=False, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("log_target", [True, False])
def test_differences_agree_in_both_modes(reduction, log_target, backend):
    x, t = (torch.rand(5, 7, dtype=torch.float64, requires_grad=True) for _ in range(2))
    ours = lambda x, t: kl_div(x, t, reduction, log_target)
    assert gradcheck(ours, (x, t), check_forward_ad=True)
    assert gradgradcheck(ours, (x, t))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("log_target", [True, False])
def test_every_dtype_is_within_rounding_of_float64(dtype, reduction, log_target, backend):
    inputs = [torch.randn(9, 40).log_softmax(1).to(dtype), torch.randn(9, 40).log_softmax(1).to(dtype)]
    if not log_target:
        inputs[1] = inputs[1].exp()
    ours, theirs = (
        lambda x, t, f=f: f(x, t, reduction=reduction, log_target=log_target) for f in (kl_div, functional.kl_div)
    )
    assert_within_rounding(ours, theirs, inputs)


def test_a_class_without_probability_counts_nothing_and_its_derivative_is_the_limit():
    x, t = torch.tensor([-1.0, -1e4]), torch.tensor([1.0, 0.0])
    assert kl_div(x, t, "none").tolist() == [1, 0]
    for_x, for_t = gradients(lambda x, t: kl_div(x, t, "sum"), (x, t))
    assert for_x.tolist() == [-1, 0]
    assert for_t.tolist() == [2, -math.inf]


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_of_no_elements_the_sum_is_zero_and_the_mean_nan(reduction):
    x = torch.zeros(0, 3)
    out, expected = (f(x, x, reduction=reduction) for f in (kl_div, functional.kl_div))
    assert torch.equal(out.isnan(), expected.isnan())
    assert torch.equal(out.nan_to_num(), expected.nan_to_num())
    assert gradients(lambda x, t: kl_div(x, t, reduction), (x, x))[0].shape == (0, 3)


def test_only_the_target_is_saved_for_the_gradient_of_the_input():
    x, t = torch.randn(64, 64).log_softmax(1).requires_grad_(), torch.randn(64, 64).softmax(1)
    assert saved_bytes(lambda: kl_div(x, t)) == 4 * 64 * 64
    assert saved_bytes(lambda: functional.kl_div(x, t)) >= 4 * 64 * 64


def test_under_autocast_the_loss_is_in_float32_as_torch_has_it():
    x, t = torch.randn(4, 5).log_softmax(1).bfloat16().requires_grad_(), torch.randn(4, 5).softmax(1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours, theirs = (f(x, t, reduction="batchmean") for f in (kl_div, functional.kl_div))
    assert ours.dtype == theirs.dtype == torch.float32
    torch.testing.assert_close(torch.autograd.grad(ours, x), torch.autograd.grad(theirs, x))


def test_vmap_and_per_example_hessians_agree_with_torch():
    inputs = torch.rand(3, 4), torch.rand(3, 4) + 0.1
    losses = [lambda x, t, f=f: f(x, t, reduction="sum").square() for f in (kl_div, functional.kl_div)]
    got, want = (torch.func.vmap(torch.func.hessian(loss, argnums=(0, 1)))(*inputs) for loss in losses)
    torch.testing.assert_close(got, want)


def test_another_reduction_is_named():
    x = torch.randn(2)
    with pytest.raises(ValueError, match="reduction is 'max', expected one of 'none', 'mean', 'sum', 'batchmean'"):
        kl_div(x, x, "max")
