"""Binary cross entropy of logits and the focal loss: every option, all four gradients, logits however large."""

import math

import pytest
import torch
from agreement import assert_agrees, gradients, saved_bytes
from half_precision import DTYPES, assert_within_rounding
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional

from gradsmith.catalog import binary_cross_entropy_with_logits as bce
from gradsmith.catalog import focal_loss

REDUCTIONS = ("none", "sum", "mean")


def torchs(x, t, weight, reduction, pos_weight):
    return functional.binary_cross_entropy_with_logits(x, t, weight, reduction=reduction, pos_weight=pos_weight)


def focal_of_the_paper(x, t, alpha, gamma, reduction):
    """Equation 5 of the paper, extended to targets between 0 and 1, for autograd to differentiate."""
    p = torch.sigmoid(x)
    right = p * t + (1 - p) * (1 - t)
    loss = functional.binary_cross_entropy_with_logits(x, t, reduction="none") * (1 - right) ** gamma
    if alpha >= 0:
        loss = (alpha * t + (1 - alpha) * (1 - t)) * loss
    return {"none": lambda: loss, "sum": loss.sum, "mean": loss.mean}[reduction]()


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.integers(0, 4), max_size=3),
    st.sampled_from(REDUCTIONS),
    st.booleans(),
    st.booleans(),
    st.sampled_from([1.0, 30.0]),
    st.integers(0, 99),
)
def test_value_and_derivatives_are_those_of_torch(shape, reduction, weighted, positive, scale, seed):
    generator = torch.Generator().manual_seed(seed)
    draw = lambda shape: torch.rand(shape, generator=generator, dtype=torch.float64)
    inputs = (draw(shape) - 0.5) * 2 * scale, draw(shape)
    weight = draw(shape[-1:]) if weighted else None
    pos_weight = draw(shape[-1:]) + 0.5 if positive else None
    ours = lambda x, t: bce(x, t, weight, reduction, pos_weight)
    theirs = lambda x, t: torchs(x, t, weight, reduction, pos_weight)
    assert_agrees(ours, theirs, inputs, exact=False, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_all_four_gradients_agree_with_differences_in_both_modes(reduction, backend):
    double = lambda *shape: torch.rand(*shape, dtype=torch.float64, requires_grad=True)
    inputs = double(4, 3), double(4, 3), double(3), double(4, 1)
    ours = lambda x, t, w, p: bce(x, t, w, reduction, p)
    assert gradcheck(ours, inputs, check_forward_ad=True)
    assert gradgradcheck(ours, inputs)


@pytest.mark.parametrize("options", [(0.25, 2.0), (-1, 0.5), (0.7, 0.0), (0.0, 1.0), (1.0, 3.0)])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("soft", [True, False])
def test_the_focal_loss_is_that_of_the_paper(options, reduction, soft):
    x, t = torch.randn(5, 4, dtype=torch.float64), torch.rand(5, 4, dtype=torch.float64)
    t = t if soft else t.round()
    ours = lambda x, t: focal_loss(x, t, *options, reduction)
    theirs = lambda x, t: focal_of_the_paper(x, t, *options, reduction)
    assert_agrees(ours, theirs, (x, t), exact=False, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_every_dtype_is_within_rounding_of_float64(dtype, reduction, backend):
    inputs = [(torch.randn(9, 40) * 2).to(dtype), torch.rand(9, 40).to(dtype)]
    weights = torch.rand(40).to(dtype), torch.rand(9, 1).to(dtype) + 0.5
    exact = lambda x, t: torchs(x, t, weights[0].double(), reduction, weights[1].double())
    assert_within_rounding(lambda x, t: bce(x, t, weights[0], reduction, weights[1]), exact, inputs)
    assert_within_rounding(
        lambda x, t: focal_loss(x, t, reduction=reduction),
        lambda x, t: focal_of_the_paper(x, t, 0.25, 2.0, reduction),
        inputs,
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_huge_logits_have_the_loss_and_gradient_of_the_limit(dtype):
    x = torch.tensor([1e4, -1e4, 1e4, -1e4], dtype=dtype)
    t = torch.tensor([1.0, 0.0, 0.0, 1.0], dtype=dtype)
    assert bce(x, t, reduction="none").tolist() == [0, 0, 1e4, 1e4]
    assert gradients(lambda x: bce(x, t, reduction="sum"), (x,))[0].tolist() == [0, 0, 1, -1]
    assert focal_loss(x, t, -1, 0.5).tolist() == [0, 0, 1e4, 1e4]
    assert gradients(lambda x: focal_loss(x, t, -1, 0.5, "sum"), (x,))[0].tolist() == [0, 0, 1, -1]


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_second_derivatives_of_huge_logits_are_finite(gamma):
    x = torch.tensor([1e4, -1e4, 200.0, 0.0], requires_grad=True)
    loss = focal_loss(x, torch.tensor([1.0, 0.0, 0.0, 1.0]), gamma=gamma, reduction="sum")
    (first,) = torch.autograd.grad(loss, x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    assert first.isfinite().all()
    assert second.isfinite().all()


def test_what_is_classified_well_keeps_its_digits():
    loss = bce(torch.tensor([20.0]), torch.tensor([1.0]))
    assert loss.item() == pytest.approx(math.log1p(math.exp(-20)), rel=1e-6)
    focal = focal_loss(torch.tensor([20.0]), torch.tensor([1.0]), -1, 1.0)
    assert focal.item() == pytest.approx(math.exp(-20) / (1 + math.exp(-20)) * math.log1p(math.exp(-20)), rel=1e-6)


def test_no_elements():
    x = torch.zeros(0, 3)
    assert bce(x, x).isnan()
    assert gradients(bce, (x, x))[0].shape == (0, 3)
    assert focal_loss(x, x).shape == (0, 3)


def test_transposed_logits_and_an_expanded_upstream_give_the_same(backend):
    x, t = torch.randn(6, 5), torch.rand(6, 5)
    want = gradients(lambda x, t: bce(x, t, reduction="none"), (x, t))
    got = gradients(lambda x, t: bce(x, t, reduction="none"), (x.mT.contiguous().mT, t), torch.ones(1).expand(6, 5))
    torch.testing.assert_close(got, want)


def test_only_the_arguments_are_saved():
    x, t = torch.randn(64, 64, requires_grad=True), torch.rand(64, 64)
    assert saved_bytes(lambda: bce(x, t)) == saved_bytes(lambda: focal_loss(x, t)) == 2 * 4 * 64 * 64
    assert saved_bytes(lambda: bce(x, t)) <= saved_bytes(lambda: functional.binary_cross_entropy_with_logits(x, t))


def test_under_autocast_the_loss_is_in_float32_as_torch_has_it():
    x, t = torch.randn(4, 5).bfloat16().requires_grad_(), torch.rand(4, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours, theirs = bce(x, t), functional.binary_cross_entropy_with_logits(x, t)
    assert ours.dtype == theirs.dtype == torch.float32
    torch.testing.assert_close(torch.autograd.grad(ours, x), torch.autograd.grad(theirs, x))


def test_vmap_and_per_example_hessians_agree_with_torch():
    inputs = torch.randn(3, 4), torch.rand(3, 4)
    losses = [lambda x, t: bce(x, t), lambda x, t: functional.binary_cross_entropy_with_logits(x, t)]
    got, want = (torch.func.vmap(torch.func.hessian(loss))(*inputs) for loss in losses)
    torch.testing.assert_close(got, want)


def test_what_does_not_fit_is_named():
    x = torch.randn(2, 3)
    with pytest.raises(ValueError, match=r"`target` has shape \[3\], expected \[2, 3\] as `input`"):
        bce(x, x[0])
    with pytest.raises(ValueError, match=r"focal_loss: `targets` has shape \[3\], expected \[2, 3\] as `inputs`"):
        focal_loss(x, x[0])
    with pytest.raises(ValueError, match="reduction is 'max', expected one of 'none', 'mean', 'sum'"):
        bce(x, x, reduction="max")
    with pytest.raises(ValueError, match="alpha is 2, expected a number from 0 to 1"):
        focal_loss(x, x, alpha=2)
    with pytest.raises(ValueError, match="gamma is -1, expected a number that is not below 0"):
        focal_loss(x, x, gamma=-1)


def test_focal_loss_of_targets_beyond_0_and_1_follows_its_formula():
    x = torch.linspace(-3, 3, 9, dtype=torch.float64, requires_grad=True)
    t = torch.linspace(-1, 2, 9, dtype=torch.float64)
    p = torch.sigmoid(x)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(x, t, reduction="none")
    expected = (0.25 * t + 0.75 * (1 - t)) * (p * (1 - t) + (1 - p) * t) ** 2 * loss
    got = focal_loss(x, t)
    torch.testing.assert_close(got, expected)
    slopes = (torch.autograd.grad(out.sum(), x, retain_graph=True)[0] for out in (got, expected))
    torch.testing.assert_close(*slopes)
