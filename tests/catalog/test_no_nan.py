"""Where a careless formula gives NaN or infinity: huge logits, one class, no rows, everything masked or ignored."""

import pytest
import torch
from half_precision import DTYPES

from gradsmith.catalog import attention, cross_entropy, log_softmax, logsumexp, softmax

SOFTMAXES = [softmax, log_softmax, logsumexp]
each_dtype = pytest.mark.parametrize("dtype", DTYPES)
each_softmax = pytest.mark.parametrize("function", SOFTMAXES)


def gradient(out, leaf):
    return torch.autograd.grad(out, leaf, torch.ones_like(out))[0]


@each_dtype
@pytest.mark.parametrize("sign", [1, -1])
def test_logits_of_ten_thousand(dtype, sign, backend):
    logits = (torch.tensor([[1e4, 0, -1e4], [1e4, 1e4, 1e4], [-1e4, -1e4, -1e4]]) * sign).to(dtype).requires_grad_()
    for function in SOFTMAXES:
        out = function(logits, 1)
        assert out.isfinite().all()
        assert gradient(out, logits).isfinite().all()
    for target in range(3):
        loss = cross_entropy(logits, torch.full((3,), target), label_smoothing=0.1)
        assert loss.isfinite()
        assert gradient(loss, logits).isfinite().all()


@each_dtype
def test_one_class_has_the_loss_and_the_gradient_zero(dtype, backend):
    logits = torch.tensor([[3.0], [-1e4], [1e4]]).to(dtype).requires_grad_()
    for options in ({}, {"label_smoothing": 0.1}, {"reduction": "none"}):
        loss = cross_entropy(logits, torch.zeros(3, dtype=torch.long), **options)
        assert not loss.any()
        assert gradient(loss, logits).abs().max() <= (1e-8 if "label_smoothing" in options else 0)
    assert torch.equal(softmax(logits, 1), torch.ones_like(logits))
    assert not gradient(softmax(logits, 1), logits).any()
    assert torch.equal(logsumexp(logits, 1), logits[:, 0])


@each_dtype
def test_no_rows(dtype, backend):
    logits, targets = torch.zeros(0, 5, dtype=dtype, requires_grad=True), torch.zeros(0, dtype=torch.long)
    for function in SOFTMAXES:
        assert gradient(function(logits, 1), logits).shape == (0, 5)
    assert cross_entropy(logits, targets, reduction="sum") == 0
    assert cross_entropy(logits, targets).isnan()  # the mean of nothing, as in torch
    assert gradient(cross_entropy(logits, targets), logits).shape == (0, 5)


@each_dtype
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weight", [None, torch.ones(5)])
def test_targets_that_are_all_ignored_have_the_gradient_zero(dtype, reduction, weight, backend):
    logits, targets = torch.randn(4, 5).to(dtype).requires_grad_(), torch.full((4,), -100)
    weight = None if weight is None else weight.to(dtype)
    loss = cross_entropy(logits, targets, weight, reduction=reduction)
    assert loss.isnan() if reduction == "mean" else not loss.any()
    assert torch.equal(gradient(loss, logits), torch.zeros_like(logits))


@each_dtype
def test_logits_that_are_masked_out_have_the_gradient_zero(dtype, backend):
    logits = torch.randn(2, 6).to(dtype)
    logits[:, 2:5] = -torch.inf
    logits.requires_grad_()
    for out in (cross_entropy(logits, torch.tensor([0, 5])), softmax(logits, 1), logsumexp(logits, 1)):
        got = gradient(out, logits)
        assert got.isfinite().all()
        assert not got[:, 2:5].any()


@each_dtype
def test_queries_that_see_no_key(dtype):
    leaves = [torch.randn(2, 4, 8).to(dtype).requires_grad_() for _ in range(3)]
    out = attention(*leaves, attn_mask=torch.zeros(4, 4, dtype=torch.bool))
    assert not out.any()
    assert all(not grad.any() for grad in torch.autograd.grad(out.sum(), leaves))
