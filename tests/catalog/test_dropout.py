"""dropout: the distribution of torch's, a gradient with the mask of the forward, a bit an element or one seed saved.

The native kernel keeps a seed and no mask, so whatever the backward runs in must find the kernel's mask again.
"""

import pytest
import torch
import torch.utils.checkpoint
from agreement import gradients, saved_bytes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.nn import functional

from gradsmith import CallError, check, native
from gradsmith.catalog.dropout import dropout

MEMORY = pytest.mark.parametrize("memory", ["bits", "seed"])
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.complex64]


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.integers(0, 5), max_size=3),
    st.sampled_from([0.1, 0.5, 0.9]),
    st.sampled_from(DTYPES),
    st.sampled_from(["bits", "seed"]),
    st.booleans(),
)
def test_the_gradient_of_ones_is_the_output_of_ones(backend, shape, p, dtype, memory, strided):
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
def test_each_element_is_dropped_with_probability_p_and_the_mean_stays(memory, p, backend):
    out = dropout(torch.ones(200, 500), p, memory=memory)
    assert (out == 0).float().mean().item() == pytest.approx(p, abs=0.01)
    assert out.mean().item() == pytest.approx(1, abs=0.03)
    assert (out == 0).float().mean(0).std() < 0.05


@MEMORY
@pytest.mark.parametrize(("p", "training"), [(0.0, True), (1.0, True), (0.5, False)])
def test_where_nothing_is_random_value_and_gradient_are_those_of_torch(memory, p, training, backend):
    x = torch.randn(3, 4)
    ours = lambda x: dropout(x, p, training, memory=memory)
    theirs = lambda x: functional.dropout(x, p, training)
    assert torch.equal(ours(x), theirs(x))
    assert torch.equal(gradients(ours, (x,))[0], gradients(theirs, (x,))[0])


@MEMORY
def test_an_infinity_that_is_dropped_is_zero(memory, backend):
    out = dropout(torch.full((1000,), torch.inf), 0.5, memory=memory)
    assert set(out.unique().tolist()) == {0, torch.inf}


@MEMORY
def test_a_call_repeats_with_the_generator_and_the_next_differs(memory, backend):
    x = torch.ones(1000)
    torch.manual_seed(5)
    first, second = dropout(x, memory=memory), dropout(x, memory=memory)
    torch.manual_seed(5)
    assert torch.equal(first, dropout(x, memory=memory))
    assert not torch.equal(first, second)


def test_a_bit_an_element_is_saved_or_nothing(backend):
    x = torch.randn(64, 64, requires_grad=True)
    assert saved_bytes(lambda: dropout(x)) == (0 if backend == "native" else 64 * 64 // 8)
    assert saved_bytes(lambda: dropout(x, memory="seed")) == 0
    assert saved_bytes(lambda: functional.dropout(x)) >= 64 * 64


@MEMORY
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_derivative_uses_the_mask_of_the_forward(memory, backend, dtype):
    x = torch.rand(50, dtype=dtype, requires_grad=True)
    out = dropout(x, 0.5, memory=memory)
    factor = (out / x).detach()
    (first,) = torch.autograd.grad(out.square().sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    torch.testing.assert_close(first, 2 * factor**2 * x)
    torch.testing.assert_close(second, 2 * factor**2)


LAYOUTS = {
    "dense": lambda: torch.ones(40, 30),
    "transposed": lambda: torch.ones(30, 40).t(),
    "channels last": lambda: torch.ones(2, 6, 10, 10).to(memory_format=torch.channels_last),
    "a part": lambda: torch.ones(40, 50)[:, 7:33],
    "every second": lambda: torch.ones(40, 60)[:, ::2],
    "expanded": lambda: torch.ones(40, 1).expand(40, 30),
    "no dimension": lambda: torch.ones(()),
    "empty": lambda: torch.ones(0, 3),
}


@MEMORY
@pytest.mark.parametrize("layout", LAYOUTS)
def test_whatever_the_backward_runs_in_it_uses_the_mask_of_the_forward(memory, layout, backend):
    x = LAYOUTS[layout]().requires_grad_()
    out = dropout(x, 0.3, memory=memory)
    assert out.stride() == torch.empty_like(x).stride()
    gradient = lambda upstream, **options: torch.autograd.grad(out, x, upstream, retain_graph=True, **options)[0]
    ones = torch.ones_like(out)
    assert torch.equal(gradient(ones), out)
    assert torch.equal(gradient(torch.ones(()).expand(out.shape)), out)
    assert torch.equal(gradient(torch.ones(out.shape)), out)
    assert torch.equal(gradient(ones.requires_grad_(), create_graph=True), out)
    with native.disabled():
        assert torch.equal(gradient(ones), out)
    if out.numel() and backend == "native":  # which draws its mask where torch has no random numbers
        several = torch.arange(3.0).view(3, *[1] * out.dim()) * out.new_ones(3, *out.shape)
        want = several * out.detach()
        assert torch.equal(gradient(several, is_grads_batched=True), want)
        assert torch.equal(torch.func.vmap(gradient)(several), want)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(torch.ones_like(out), torch.full_like(out, 2))
        assert torch.equal(torch.autograd.forward_ad.unpack_dual(gradient(dual)).tangent, 2 * out)


@MEMORY
@pytest.mark.parametrize("reentrant", [True, False])
def test_a_checkpoint_draws_the_same_mask_again(memory, reentrant, backend):
    x = torch.ones(1000, requires_grad=True)
    out = torch.utils.checkpoint.checkpoint(lambda x: dropout(x, memory=memory) * x, x, use_reentrant=reentrant)
    out.sum().backward()
    assert torch.equal(x.grad, 2 * out)


@MEMORY
def test_neighbours_and_calls_are_independent(memory, backend):
    """Correlations of 100 000 elements deviate from 0 by 1/316: all within five times as much."""
    z = torch.stack([torch.sign(dropout(torch.ones(10**5), 0.5, memory=memory) - 1) for _ in range(2)])
    assert (z[0] * z[1]).mean().abs() < 0.016
    for step in (1, 2, 16, 64, 256):
        assert (z[:, :-step] * z[:, step:]).mean(1).abs().max() < 0.016


def test_the_result_may_be_written_to_in_place(backend):
    x = torch.ones(20, 30).t().requires_grad_()
    out = dropout(x, 0.5).mul_(3)
    assert torch.equal(torch.autograd.grad(out.sum(), x)[0], out)


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
def test_the_checker_finds_neither_error_nor_warning(memory, p, backend):
    report = check(dropout, (torch.randn(3, 4, dtype=torch.float64, requires_grad=True), p), {"memory": memory})
    assert report.of("error") == report.of("warning") == ()


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match=r"p must be a probability, from 0 to 1, got 1\.5"):
        dropout(torch.ones(2), 1.5)
    with pytest.raises(ValueError, match="memory must be one of 'bits', 'seed', got 'none'"):
        dropout(torch.ones(2), memory="none")
