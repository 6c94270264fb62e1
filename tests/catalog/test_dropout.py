"""dropout: the distribution of torch's, a gradient with the mask of the forward, a bit an element or one seed saved."""

import pytest
import torch
from agreement import gradients, saved_bytes
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from gradsmith import CallError, check
from gradsmith.catalog.dropout import dropout

MEMORY = pytest.mark.parametrize("memory", ["bits", "seed"])
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.complex64]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(0, 5), max_size=3),
    st.sampled_from([0.1, 0.5, 0.9]),
    st.sampled_from(DTYPES),
    st.sampled_from(["bits", "seed"]),
    st.booleans(),
)
def test_the_gradient_of_ones_is_the_output_of_ones(shape, p, dtype, memory, strided):
    x = torch.ones(shape, dtype=dtype)
    x = (x.mT.contiguous().mT if strided and len(shape) > 1 else x).requires_grad_()
    out = dropout(x, p, memory=memory)
    (gradient,) = torch.autograd.grad(out, x, torch.ones_like(out))
    assert (out.shape, out.dtype) == (x.shape, dtype)
    assert torch.equal(gradient, out)
    kept = out[out != 0]
    torch.testing.assert_close(kept, torch.full_like(kept, 1 / (1 - p)))


@MEMORY
@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_each_element_is_dropped_with_probability_p_and_the_mean_stays(memory, p):
    out = dropout(torch.ones(200, 500), p, memory=memory)
    assert (out == 0).float().mean().item() == pytest.approx(p, abs=0.01)
    assert out.mean().item() == pytest.approx(1, abs=0.03)
    assert (out == 0).float().mean(0).std() < 0.05


@MEMORY
@pytest.mark.parametrize(("p", "training"), [(0.0, True), (1.0, True), (0.5, False)])
def test_where_nothing_is_random_value_and_gradient_are_those_of_torch(memory, p, training):
    x = torch.randn(3, 4)
    ours = lambda x: dropout(x, p, training, memory=memory)
    theirs = lambda x: functional.dropout(x, p, training)
    assert torch.equal(ours(x), theirs(x))
    assert torch.equal(gradients(ours, (x,))[0], gradients(theirs, (x,))[0])


@MEMORY
def test_an_infinity_that_is_dropped_is_zero(memory):
    out = dropout(torch.full((1000,), torch.inf), 0.5, memory=memory)
    assert set(out.unique().tolist()) == {0, torch.inf}


@MEMORY
def test_a_call_repeats_with_the_generator_and_the_next_differs(memory):
    x = torch.ones(1000)
    torch.manual_seed(5)
    first, second = dropout(x, memory=memory), dropout(x, memory=memory)
    torch.manual_seed(5)
    assert torch.equal(first, dropout(x, memory=memory))
    assert not torch.equal(first, second)


def test_a_bit_an_element_is_saved_or_nothing():
    x = torch.randn(64, 64, requires_grad=True)
    assert saved_bytes(lambda: dropout(x)) == 64 * 64 // 8
    assert saved_bytes(lambda: dropout(x, memory="seed")) == 0
    assert saved_bytes(lambda: functional.dropout(x)) >= 64 * 64


@MEMORY
def test_every_derivative_uses_the_mask_of_the_forward(memory):
    x = torch.rand(50, dtype=torch.float64, requires_grad=True)
    out = dropout(x, 0.5, memory=memory)
    factor = (out / x).detach()
    (first,) = torch.autograd.grad(out.square().sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    torch.testing.assert_close(first, 2 * factor**2 * x)
    torch.testing.assert_close(second, 2 * factor**2)


def test_forward_mode_uses_the_mask_of_the_forward():
    x, tangent = torch.ones(1000), torch.full((1000,), 2.0)
    out, along = torch.func.jvp(lambda x: dropout(x, 0.3), (x,), (tangent,))
    torch.testing.assert_close(along, 2 * out)


def test_under_vmap_randomness_decides_whether_examples_share_a_mask():
    x = torch.ones(2, 500)
    same = torch.func.vmap(lambda x: dropout(x, memory="seed"), randomness="same")(x)
    different = torch.func.vmap(dropout, randomness="different")(x)
    assert torch.equal(same[0], same[1])
    assert not torch.equal(different[0], different[1])
    gradient = torch.func.vmap(torch.func.grad(lambda x: dropout(x).sum()), randomness="different")(x)
    assert not torch.equal(gradient[0], gradient[1])
    with pytest.raises(CallError, match='memory="seed" has one seed for all examples'):
        torch.func.vmap(lambda x: dropout(x, memory="seed"), randomness="different")(x)


@MEMORY
@pytest.mark.parametrize("p", [0.0, 0.5, 1.0])
def test_the_checker_finds_neither_error_nor_warning(memory, p):
    report = check(dropout, (torch.randn(3, 4, dtype=torch.float64, requires_grad=True), p), {"memory": memory})
    assert report.of("error") == report.of("warning") == ()


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match=r"p must be a probability, from 0 to 1, got 1\.5"):
        dropout(torch.ones(2), 1.5)
    with pytest.raises(ValueError, match="memory must be one of 'bits', 'seed', got 'none'"):
        dropout(torch.ones(2), memory="none")
