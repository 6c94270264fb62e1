"""huber_loss and smooth_l1_loss: torch's values and derivatives in every option, shape and layout."""

import pytest
import torch
from agreement import assert_agrees, gradients, saved_bytes
from half_precision import DTYPES, assert_within_rounding
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional

from gradsmith.catalog import huber_loss, smooth_l1_loss
from gradsmith.catalog.pointwise import upstream

REDUCTIONS = ("none", "sum", "mean")
PAIRS = {
    "huber": (
        lambda x, t, reduction, limit: huber_loss(x, t, reduction, limit),
        lambda x, t, reduction, limit: functional.huber_loss(x, t, reduction, limit),
    ),
    "smooth l1": (
        lambda x, t, reduction, limit: smooth_l1_loss(x, t, reduction, limit),
        lambda x, t, reduction, limit: functional.smooth_l1_loss(x, t, reduction=reduction, beta=limit),
    ),
}
BOTH = pytest.mark.parametrize("name", PAIRS)


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from(list(PAIRS)),
    st.lists(st.integers(0, 4), max_size=3),
    st.sampled_from(REDUCTIONS),
    st.sampled_from([0.0, 0.5, 2.0, 1e4]),
    st.booleans(),
    st.integers(0, 99),
)
def test_value_and_derivatives_are_those_of_torch(name, shape, reduction, limit, strided, seed):
    assume(name != "huber" or limit > 0)
    generator = torch.Generator().manual_seed(seed)
    inputs = tuple(torch.randn(shape, generator=generator, dtype=torch.float64) * 3 for _ in range(2))
    if strided and len(shape) > 1:
        inputs = tuple(value.mT.contiguous().mT for value in inputs)
    ours, theirs = (lambda x, t, f=f: f(x, t, reduction, limit) for f in PAIRS[name])
    assert_agrees(ours, theirs, inputs, exact=False, rtol=1e-9, atol=1e-12)


@BOTH
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_differences_agree_in_both_modes(name, reduction, backend):
    inputs = tuple(torch.randn(5, 7, dtype=torch.float64, requires_grad=True) for _ in range(2))
    ours = lambda x, t: PAIRS[name][0](x, t, reduction, 0.7)
    assert gradcheck(ours, inputs, check_forward_ad=True)
    assert gradgradcheck(ours, inputs)


@BOTH
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_every_dtype_is_within_rounding_of_float64(name, dtype, reduction, backend):
    inputs = [(torch.randn(9, 40) * 2).to(dtype) for _ in range(2)]
    ours, theirs = (lambda x, t, f=f: f(x, t, reduction, 1.0) for f in PAIRS[name])
    assert_within_rounding(ours, theirs, inputs)


@BOTH
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_mean_of_many_elements_is_right_in_half_precision(name, dtype):
    x = torch.full((512, 512), 0.5).to(dtype)
    assert PAIRS[name][0](x, torch.zeros_like(x), "mean", 1.0).item() == 0.125


@BOTH
def test_a_broadcast_target_gets_the_sum_of_what_it_was_repeated_for_and_a_warning(name):
    x, t = torch.randn(3, 4, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    ours, theirs = (lambda x, t, f=f: f(x, t, "mean", 0.5) for f in PAIRS[name])
    with pytest.warns(UserWarning, match=r"`target` of shape \[4\] is broadcast against `input` of shape \[3, 4\]"):
        got = gradients(ours, (x, t))
    torch.testing.assert_close(got, gradients(lambda x, t: theirs(x, t.expand_as(x)), (x, t)))


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_the_weight_of_the_huber_loss_has_a_gradient_and_broadcasts(reduction):
    x, t = (torch.randn(3, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    weight = torch.rand(4, dtype=torch.float64, requires_grad=True)
    ours = lambda *tensors: huber_loss(*tensors[:2], reduction, 0.7, tensors[2])
    assert_agrees(
        ours,
        lambda x, t, w: functional.huber_loss(x, t, reduction, 0.7, w.expand_as(x)),
        (x, t, weight),
        exact=False,
        rtol=1e-9,
        atol=1e-12,
    )
    assert gradgradcheck(ours, (x, t, weight))


def test_at_the_target_the_absolute_difference_has_the_gradient_zero():
    (gradient, _) = gradients(lambda x, t: smooth_l1_loss(x, t, "sum", 0.0), (torch.ones(3), torch.ones(3)))
    assert torch.equal(gradient, torch.zeros(3))


@BOTH
def test_values_far_off_neither_overflow_nor_lose_their_sign(name):
    x = torch.tensor([1e20, -1e20, float("inf")])
    (gradient, _) = gradients(lambda x, t: PAIRS[name][0](x, t, "sum", 1.0), (x, torch.zeros(3)))
    assert gradient.tolist() == [1, -1, 1]


@BOTH
def test_no_more_is_saved_than_torch_saves(name):
    x, t = (torch.randn(64, 64, requires_grad=True) for _ in range(2))
    ours, theirs = (lambda f=f: f(x, t, "mean", 1.0) for f in PAIRS[name])
    assert saved_bytes(ours) <= saved_bytes(theirs)


@BOTH
def test_under_autocast_the_loss_is_in_float32_as_torch_has_it(name):
    x, t = torch.randn(4, 5).bfloat16().requires_grad_(), torch.randn(4, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours, theirs = (f(x, t, "mean", 1.0) for f in PAIRS[name])
    assert ours.dtype == theirs.dtype == torch.float32
    torch.testing.assert_close(torch.autograd.grad(ours, x), torch.autograd.grad(theirs, x))


@BOTH
def test_vmap_and_per_example_hessians_agree_with_torch(name):
    inputs = torch.randn(3, 4), torch.randn(3, 4)
    losses = [lambda x, t, f=f: f(x, t, "mean", 0.7) for f in PAIRS[name]]
    got, want = (torch.func.vmap(torch.func.hessian(loss))(*inputs) for loss in losses)
    torch.testing.assert_close(got, want)


def test_what_does_not_fit_is_named():
    x = torch.randn(2)
    with pytest.raises(ValueError, match="huber_loss: reduction is 'max', expected one of 'none', 'mean', 'sum'"):
        huber_loss(x, x, "max")
    with pytest.raises(RuntimeError, match="huber_loss: delta is 0, expected a number above 0"):
        huber_loss(x, x, delta=0)
    with pytest.raises(RuntimeError, match="smooth_l1_loss: beta is -1, expected a number that is not below 0"):
        smooth_l1_loss(x, x, beta=-1)


def test_what_arrives_at_each_element_of_a_mean_takes_no_memory_in_any_dtype():
    arriving = upstream(torch.ones(()), torch.Size((4, 8)), "mean", dtype=torch.bfloat16)
    assert arriving.dtype == torch.bfloat16
    assert arriving.untyped_storage().nbytes() == 2
    assert torch.equal(arriving, torch.full((4, 8), 1 / 32, dtype=torch.bfloat16))
