"""Compressed saves: booleans to the last bit, activations within the stated error, and gradients after them."""

import gc
import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import gradsmith as gs
from gradsmith.catalog.compress import compress_saves, dequantize, pack_bits, quantize, unpack_bits

shapes = st.lists(st.integers(0, 9), max_size=3)


def held(run, **options):
    """The bytes that a call keeps for its backward, beyond what is alive for other reasons: by what packing returns."""
    seen = {}
    hooks = compress_saves(**options)
    with torch.autograd.graph.saved_tensors_hooks(lambda x: _count(seen, hooks.pack_hook(x)), hooks.unpack_hook):
        out = run()
    return out, sum(seen.values())


def _count(seen, packed):
    for tensor in [packed] if isinstance(packed, torch.Tensor) else vars(packed).values():
        if isinstance(tensor, torch.Tensor):
            seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
    return packed


# ---- bits ------------------------------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(shapes, st.integers(0, 99))
def test_a_mask_comes_back_as_it_was_from_an_eighth_of_its_bytes(shape, seed):
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(seed)) > 0.5
    bits = pack_bits(mask)
    assert bits.dtype == torch.uint8
    assert bits.numel() == -(-mask.numel() // 8)
    assert torch.equal(unpack_bits(bits, mask.shape), mask)


def test_strides_of_a_mask_make_no_difference():
    mask = torch.rand(6, 10) > 0.5
    for view in (mask.mT, mask[:, 1::3], mask[:1].expand(4, 10)):
        assert torch.equal(unpack_bits(pack_bits(view), view.shape), view)


def test_what_is_no_mask_is_refused_by_name():
    with pytest.raises(TypeError, match=r"mask must be boolean, got torch.float32; compare first"):
        pack_bits(torch.ones(3))
    with pytest.raises(
        ValueError, match=r"bits must be uint8 of shape \(2,\) for a mask of shape \(3, 4\), got .* \(1,\)"
    ):
        unpack_bits(pack_bits(torch.ones(8, dtype=torch.bool)), (3, 4))


# ---- eight bits ------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    shapes,
    st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.float16]),
    st.floats(-3, 3),
    st.integers(0, 99),
)
def test_an_element_is_off_by_no_more_than_the_largest_of_its_block_over_254(shape, dtype, exponent, seed):
    x = (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 10**exponent).to(dtype)
    back = dequantize(quantize(x))
    assert (back.dtype, back.shape) == (dtype, x.shape)
    blocks = nn.functional.pad(x.double().flatten(), (0, -x.numel() % 64)).view(-1, 64)
    bound = (blocks.abs().amax(1, keepdim=True) / 254).expand_as(blocks).flatten()[: x.numel()].view(x.shape)
    rounding = torch.finfo(dtype).eps * x.double().abs() + torch.finfo(torch.float32).eps * bound * 254
    assert ((back.double() - x.double()).abs() <= bound + rounding + torch.finfo(dtype).tiny).all()


def test_it_takes_a_quarter_of_the_bytes_and_a_sixteenth_of_that_for_scales():
    packed = quantize(torch.randn(64, 100))
    assert packed.codes.dtype == torch.int8
    assert packed.codes.nbytes + packed.scale.nbytes == 6400 * (1 + 4 / 64)


def test_zeros_and_signs_come_back_and_what_is_not_finite_is_nan():
    assert torch.equal(dequantize(quantize(torch.zeros(70))), torch.zeros(70))
    x = torch.linspace(-1, 1, 64)
    assert torch.equal(dequantize(quantize(-x)), -dequantize(quantize(x)))
    for value in (torch.inf, -torch.inf, torch.nan):
        x = torch.ones(130)
        x[3] = value
        back = dequantize(quantize(x))
        assert not back[:64].isfinite().any()
        assert torch.equal(back[64:], x[64:])


def test_integers_are_refused_by_name():
    with pytest.raises(TypeError, match=r"x must be floating-point, got torch.bool; booleans go to pack_bits"):
        quantize(torch.ones(3, dtype=torch.bool))


# ---- what an op saves ------------------------------------------------------------------------------------------------


def test_masks_cost_an_eighth_and_gradients_stay_the_same_to_the_last_bit():
    x = torch.randn(64, 64, requires_grad=True)

    def leaky():
        return torch.where(x > 0, x, 0.1 * x)

    out, kept = held(leaky)
    assert kept <= 64 * 64 / 8
    assert torch.equal(torch.autograd.grad(out.sum(), x)[0], torch.autograd.grad(leaky().sum(), x)[0])


def test_activations_stay_as_they_are_unless_asked_for():
    x = torch.randn(64, 64, requires_grad=True)
    exact = torch.autograd.grad((x * 2).exp().sum(), x)[0]
    with compress_saves():
        out = (x * 2).exp()
    assert torch.equal(torch.autograd.grad(out.sum(), x)[0], exact)
    out, kept = held(lambda: (x * 2).exp(), activations=True)
    assert kept < 64 * 64 * 4 * 0.27
    got = torch.autograd.grad(out.sum(), x)[0]
    largest = exact.view(-1, 64).abs().amax(1, keepdim=True)
    apart = (got - exact).view(-1, 64).abs()
    assert apart.any()
    assert (apart <= 1.001 * largest / 254).all()


def test_parameters_inputs_and_small_tensors_are_left_alone():
    weight, small = torch.randn(40, 40, requires_grad=True), torch.randn(8, requires_grad=True)
    seen = []
    hooks = compress_saves(activations=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda x: seen.append(hooks.pack_hook(x)) or x, lambda x: x):
        (weight @ weight).sum() + (small * 2).exp().sum()
    assert seen
    assert all(isinstance(packed, torch.Tensor) for packed in seen)


def test_a_tensor_that_two_ops_save_is_compressed_once_and_again_once_it_was_written_to():
    x = (torch.randn(64, 64, requires_grad=True) * 2).detach().requires_grad_()
    y = x * 1
    hooks = compress_saves(activations=True)
    first, second = hooks.pack_hook(y), hooks.pack_hook(y)
    assert first is second
    with torch.no_grad():
        y.mul_(3)
    third = hooks.pack_hook(y)
    assert third is not first
    assert (dequantize(third) - y).abs().max() < y.abs().max() / 200


def test_it_keeps_nothing_alive_itself():
    hooks = compress_saves(activations=True)
    y = torch.randn(64, 64, requires_grad=True) * 1
    packed = hooks.pack_hook(y)
    watch = weakref.ref(packed)
    del y, packed
    gc.collect()
    assert watch() is None


def layer(ours):
    """A transformer's layer in pre-norm form; the same weights each time."""
    torch.manual_seed(0)
    model = nn.TransformerEncoderLayer(64, 4, 256, 0.0, "gelu", batch_first=True, norm_first=True)
    if ours:
        gs.nn.swap(model)
    return model


@pytest.mark.parametrize("ours", [False, True])
def test_a_transformers_layer_keeps_less_than_half_and_its_gradients_are_off_by_one_percent(ours):
    model, x = layer(ours), torch.randn(4, 32, 64)
    upstream = torch.randn(4, 32, 64)

    def gradients(out):
        return torch.cat([grad.flatten() for grad in torch.autograd.grad(out, list(model.parameters()), upstream)])

    def call():
        return model(x.clone() + 0)

    parameters = sum(parameter.nbytes for parameter in model.parameters())
    plain, exactly = held(call)
    exact = gradients(plain)
    out, kept = held(call, activations=True)
    assert kept - parameters < 0.5 * (exactly - parameters)
    assert (gradients(out) - exact).norm() < 0.01 * exact.norm()


def test_dropout_between_them_keeps_its_mask():
    x = torch.randn(64, 64, requires_grad=True)
    torch.manual_seed(0)
    exact = torch.autograd.grad(nn.functional.dropout(x * 1, 0.3).sum(), x)[0]
    torch.manual_seed(0)
    with compress_saves(activations=True):
        out = nn.functional.dropout(x * 1, 0.3)
    torch.testing.assert_close(torch.autograd.grad(out.sum(), x)[0], exact)
