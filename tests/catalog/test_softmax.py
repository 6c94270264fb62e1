"""softmax, log_softmax and logsumexp: torch's values, and derivatives of every order."""

import pytest
import torch
from agreement import assert_agrees, saved_bytes
from half_precision import DTYPES, assert_within_rounding
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck

from gradsmith import check
from gradsmith.catalog import log_softmax, logsumexp, softmax

PAIRS = [(softmax, torch.softmax), (log_softmax, torch.log_softmax), (logsumexp, torch.logsumexp)]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=3), st.integers(0, 2), st.integers(0, 2), st.integers(0, 99))
def test_value_and_derivatives_are_those_of_torch_along_any_dimension(shape, axis, which, seed):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 10
    dim = axis % len(shape) - len(shape) * (seed % 2)
    ours, theirs = PAIRS[which]
    assert_agrees(lambda x: ours(x, dim), lambda x: theirs(x, dim), (x,), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("ours", [pair[0] for pair in PAIRS])
def test_differences_agree_in_both_modes(ours):
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda x: ours(x, 1), x, check_forward_ad=True)
    assert gradgradcheck(lambda x: ours(x, 1), x)


@pytest.mark.parametrize("ours", [pair[0] for pair in PAIRS])
@pytest.mark.parametrize("dim", [0, -1])
def test_the_checker_has_nothing_to_say(ours, dim, backend):
    report = check(lambda x: ours(x, dim), (torch.randn(3, 4, dtype=torch.float64, requires_grad=True),))
    assert report.findings == ()


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(5, 33), (3, 2, 1050), (70, 1050)])
def test_every_dtype_is_within_rounding_of_float64(ours, theirs, dtype, shape, backend):
    x = (torch.randn(shape) * 3).to(dtype)
    times = 8 if ours is log_softmax else 4  # its gradient is a difference, of the rounded output
    assert_within_rounding(lambda x: ours(x, -1), lambda x: theirs(x, -1), (x,), times * (1 + 4 * (ours is softmax)))


@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("dim", [(0, 2), (1,), (-1,), 2])
def test_logsumexp_over_several_dimensions(dim, keepdim, backend):
    x = torch.randn(2, 3, 4, dtype=torch.float64)
    ours, theirs = (lambda x, f=f: f(x, dim, keepdim) for f in (logsumexp, torch.logsumexp))
    assert_agrees(ours, theirs, (x,), exact=False, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(logsumexp(x.float(), dim, keepdim), torch.logsumexp(x.float(), dim, keepdim))


@pytest.mark.parametrize("times", [1, 6000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_huge_infinite_and_missing_values(backend, times, dtype):
    rows = [[1e4, -1e4, 0.0], [torch.inf, 0.0, 0.0], [-torch.inf, 0.0, 1.0], [-torch.inf] * 3, [0.0, torch.nan, 1.0]]
    x = torch.tensor(rows, dtype=dtype).repeat(times, 1)
    torch.testing.assert_close(logsumexp(x, 1), torch.logsumexp(x, 1), equal_nan=True)
    leaf = x.unflatten(0, (times, -1))[:, [0, 2]].clone().requires_grad_()
    (got,) = torch.autograd.grad(logsumexp(leaf, -1).sum(), leaf)
    torch.testing.assert_close(got, torch.softmax(leaf.detach(), -1))


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_no_rows_and_no_dimension(ours, theirs, backend):
    for x in (torch.zeros(0, 3), torch.tensor(2.0)):
        leaf = x.clone().requires_grad_()
        out = ours(leaf, -1)
        torch.testing.assert_close(out, theirs(x, -1))
        assert torch.autograd.grad(out.sum(), leaf)[0].shape == x.shape


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_no_more_is_saved_than_torch_saves(ours, theirs, backend):
    x = torch.randn(8, 64, requires_grad=True)
    assert saved_bytes(lambda: ours(x, 1)) <= saved_bytes(lambda: theirs(x, 1))


@pytest.mark.parametrize(("ours", "theirs"), PAIRS[:2])
def test_a_dtype_widens_the_computation_and_the_gradient_comes_back(ours, theirs):
    x = torch.randn(4, 5).bfloat16().requires_grad_()
    out = ours(x, 1, torch.float32)
    assert out.dtype == torch.float32
    torch.testing.assert_close(
        torch.autograd.grad(out.square().sum(), x),
        torch.autograd.grad(theirs(x, 1, dtype=torch.float32).square().sum(), x),
    )


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_vmap_and_hessians_agree_with_torch(ours, theirs):
    x = torch.randn(3, 4)
    got, want = (torch.func.vmap(torch.func.hessian(lambda x, f=f: f(x, 0).square().sum()))(x) for f in (ours, theirs))
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("missing", ["softmax_backward", "log_softmax_backward"])
def test_without_torchs_private_operators_the_formula_is_written_out(missing, monkeypatch):
    monkeypatch.setattr(f"gradsmith.catalog._private.{missing}", None)
    ours, theirs = PAIRS[missing.startswith("log")]
    x = torch.randn(3, 4, dtype=torch.float64)
    assert_agrees(lambda x: ours(x, 1), lambda x: theirs(x, 1), (x,), rtol=1e-7, atol=1e-9)
