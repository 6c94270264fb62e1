"""recompute_saves: what is cheap is computed again, bit for bit, and its memory is free until then."""

import threading
import weakref
from contextlib import nullcontext

import pytest
import torch
from torch.nn import functional

import gradsmith as gs
from gradsmith import native
from gradsmith.catalog import activations

WIDTH = 64


def leaf(*shape):
    return torch.randn(*shape, requires_grad=True)


CHEAP = {
    "silu": lambda x, y, w: gs.silu(x),
    "gelu": lambda x, y, w: gs.gelu(x),
    "gelu by tanh": lambda x, y, w: gs.gelu(x, "tanh"),
    "swiglu": lambda x, y, w: gs.swiglu(x, y),
    "geglu": lambda x, y, w: gs.geglu(x, y),
    "rms_norm": lambda x, y, w: gs.rms_norm(x, (WIDTH,), w),
    "layer_norm": lambda x, y, w: gs.layer_norm(x, (WIDTH,), w, w),
    "add_rms_norm": lambda x, y, w: gs.add_rms_norm(x, y, (WIDTH,), w)[0],
    "add_layer_norm": lambda x, y, w: gs.add_layer_norm(x, y, (WIDTH,), w, w)[0],
}


@pytest.fixture(params=CHEAP.values(), ids=CHEAP)
def cheap(request):
    return request.param


@pytest.fixture
def inputs():
    torch.manual_seed(0)
    return leaf(4, 32, WIDTH), leaf(4, 32, WIDTH), leaf(WIDTH), leaf(16, WIDTH)


def layer(cheap, inputs, linear=functional.linear):
    """A linear layer on what is cheap, and whether anything still holds the memory of that."""
    *rest, weight = inputs
    middle = cheap(*rest)
    alive = weakref.ref(middle.untyped_storage())
    out = linear(middle, weight)
    del middle
    return out, alive


def gradients(out, inputs, **options):
    return torch.autograd.grad(out.square().sum(), inputs, allow_unused=True, **options)


def assert_same(got, want):
    for one, other in zip(got, want, strict=True):
        assert one is other is None or torch.equal(one, other)


@pytest.mark.parametrize("linear", [functional.linear, gs.linear], ids=["torch's linear", "ours"])
def test_the_middle_is_not_kept_and_the_gradients_are_the_same_to_the_last_bit(cheap, inputs, linear):
    plain, kept = layer(cheap, inputs, linear)
    want = gradients(plain, inputs, retain_graph=True)
    assert kept() is not None, "without the context it is kept, or this test shows nothing"
    with gs.recompute_saves():
        out, kept = layer(cheap, inputs, linear)
    assert kept() is None
    assert_same(gradients(out, inputs, retain_graph=True), want)
    assert_same(gradients(out, inputs), want)  # and once more


def test_no_activated_gate_is_kept_either(inputs, monkeypatch):
    gate, up, _, _ = inputs
    activated = []

    def noted(kind, x, activate=activations._activate):
        result = activate(kind, x)
        activated.append(weakref.ref(result.untyped_storage()))
        return result

    monkeypatch.setattr(activations, "_activate", noted)
    with native.disabled():
        plain = gs.swiglu(gate, up)
        assert activated[-1]() is not None
        with gs.recompute_saves():
            out = gs.swiglu(gate, up)
        assert activated[-1]() is None
        assert_same(gradients(out, (gate, up)), gradients(plain, (gate, up)))


def test_second_derivatives_are_the_same(cheap, inputs):
    def second(context):
        with context:
            out, _ = layer(cheap, inputs)
        first = [g for g in gradients(out, inputs, create_graph=True) if g is not None]
        return torch.autograd.grad([g.sin().sum() for g in first], inputs, allow_unused=True)

    assert_same(second(gs.recompute_saves()), second(nullcontext()))


def test_what_is_cheap_may_stand_on_what_is_cheap(inputs):
    x, _, w, weight = inputs

    def stacked():
        return functional.linear(gs.silu(gs.rms_norm(x, (WIDTH,), w)), weight)

    with gs.recompute_saves():
        out = stacked()
    assert_same(gradients(out, (x, w, weight)), gradients(stacked(), (x, w, weight)))


def test_several_that_keep_the_same_and_views_of_it(inputs):
    x, y, w, weight = inputs

    def branches():
        normed = gs.rms_norm(x, (WIDTH,), w)
        return torch.cat([functional.linear(normed, weight), normed.mT[:, :16].mT * y[..., :16], normed[0] * y], -1)

    with gs.recompute_saves():
        out = branches()
    assert_same(gradients(out, inputs), gradients(branches(), inputs))


def test_under_autocast_it_is_computed_again_as_it_was(inputs):
    def run(context):
        with context, torch.autocast("cpu", dtype=torch.bfloat16):
            out, _ = layer(CHEAP["rms_norm"], inputs)
        return gradients(out.float(), inputs)

    assert_same(run(gs.recompute_saves()), run(nullcontext()))


def test_an_output_that_was_written_to_is_kept_as_it_is_now(inputs):
    x, _, w, weight = inputs

    def doubled():
        return functional.linear(gs.rms_norm(x, (WIDTH,), w).mul_(2), weight)

    with gs.recompute_saves():
        out = doubled()
    assert_same(gradients(out, (x, w, weight)), gradients(doubled(), (x, w, weight)))


def test_an_input_that_was_written_to_is_an_error_that_says_so(inputs):
    x, _, w, weight = inputs
    hidden = x * 1
    with gs.recompute_saves():
        out = functional.linear(gs.rms_norm(hidden, (WIDTH,), w), weight)
    with torch.no_grad():
        hidden.zero_()
    with pytest.raises(RuntimeError, match=r"recompute_saves: a tensor of shape \[4, 32, 64\] was written to"):
        torch.autograd.grad(out.sum(), weight)


def test_memory_that_others_use_later_is_not_taken_for_what_was_there(inputs):
    x, _, w, weight = inputs
    with gs.recompute_saves():
        for _ in range(20):  # the allocator hands out the same address again
            gs.rms_norm(x, (WIDTH,), w)
            other = torch.ones(4, 32, WIDTH)
            out = functional.linear(other, weight)
            assert torch.equal(torch.autograd.grad(out.sum(), weight)[0], torch.full((16, WIDTH), 128.0))
            del other, out


def test_inputs_are_not_held_when_nothing_needs_them(inputs):
    *_, w, weight = inputs
    hidden = torch.randn(4, 32, WIDTH)
    alive = weakref.ref(hidden.untyped_storage())
    with gs.recompute_saves(), torch.no_grad():
        functional.linear(gs.rms_norm(hidden, (WIDTH,), w), weight)
        del hidden
        assert alive() is None


def test_the_context_is_that_of_one_thread_and_ends_with_its_block(inputs):
    seen = []

    def elsewhere():
        seen.append(layer(CHEAP["rms_norm"], inputs))

    with gs.recompute_saves():
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
    seen.append(layer(CHEAP["rms_norm"], inputs))
    assert all(alive() is not None for _, alive in seen)


def test_under_torch_func_torch_refuses_it(inputs):
    with gs.recompute_saves(), pytest.raises(RuntimeError, match="saved tensor hooks"):
        torch.func.grad(lambda x: gs.silu(x).sum())(inputs[0])
