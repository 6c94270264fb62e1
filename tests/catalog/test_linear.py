"""linear: torch.nn.functional.linear with gradients that can be read."""

import pytest
import torch
from agreement import assert_agrees, saved_bytes
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional

from gradsmith.catalog import linear


def tensors(leading, in_features, out_features, bias, dtype=torch.float64):
    shapes = [(*leading, in_features), (out_features, in_features)] + [(out_features,)] * bias
    return tuple(torch.randn(shape, dtype=dtype) for shape in shapes)


@settings(max_examples=60, deadline=None)
@given(
    leading=st.lists(st.integers(0, 4), max_size=3).map(tuple),
    in_features=st.integers(0, 5),
    out_features=st.integers(0, 4),
    bias=st.booleans(),
    dtype=st.sampled_from([torch.float64, torch.complex128]),
)
def test_any_leading_dimensions_give_what_torch_gives(leading, in_features, out_features, bias, dtype):
    assert_agrees(linear, functional.linear, tensors(leading, in_features, out_features, bias, dtype))


@pytest.mark.parametrize(("leading", "bias_shape"), [((), None), ((3,), None), ((2, 3), None), ((), ())])
def test_a_weight_without_output_dimension_gives_an_output_without_it(leading, bias_shape):
    inputs = [torch.randn(*leading, 4), torch.randn(4)]
    if bias_shape is not None:
        inputs.append(torch.randn(bias_shape))
    assert_agrees(linear, functional.linear, tuple(inputs))


@pytest.mark.parametrize("bias_shape", [(1,), (4, 2), (1, 2)])
def test_a_bias_that_is_broadcast_gets_the_gradient_of_its_own_shape(bias_shape):
    inputs = (torch.randn(4, 3), torch.randn(2, 3), torch.randn(bias_shape))
    assert_agrees(linear, functional.linear, inputs)


def test_the_bias_gradient_of_one_output_feature_stays_a_vector():
    input, weight, bias = (value.requires_grad_() for value in tensors((5,), 3, 1, True))
    (grad,) = torch.autograd.grad(linear(input, weight, bias).sum(), bias)
    assert grad.shape == (1,)
    assert grad.item() == 5


def test_numerical_differentiation_agrees():
    inputs = tuple(value.requires_grad_() for value in tensors((2, 3), 4, 2, True))
    assert gradcheck(linear, inputs, check_forward_ad=True, check_batched_grad=True)
    assert gradgradcheck(linear, inputs)


@pytest.mark.parametrize(
    ("needs", "saved"),
    [
        ((True, True, True), ("weight", "input", "weight.shape", "bias.shape")),
        ((True, False, False), ("weight",)),
        ((False, True, True), ("input", "weight.shape", "bias.shape")),
        ((False, False, True), ("bias.shape",)),
    ],
)
@pytest.mark.parametrize("leading", [(8,), (3, 8)])
def test_it_saves_what_the_needed_gradients_take_and_no_more_than_torch(needs, saved, leading):
    inputs = [v.requires_grad_(n) for v, n in zip(tensors(leading, 5, 4, True, torch.float32), needs, strict=True)]
    names = [name for name, need in zip(("input", "weight", "bias"), needs, strict=True) if need]
    assert linear.saves(*names) == saved
    assert saved_bytes(lambda: linear(*inputs)) <= saved_bytes(lambda: functional.linear(*inputs))


def test_frozen_parameters_get_no_gradient_and_the_others_the_right_one():
    input, weight, bias = tensors((4,), 3, 2, True)
    weight.requires_grad_()
    (grad,) = torch.autograd.grad(linear(input, weight, bias).sum(), weight)
    torch.testing.assert_close(grad, input.sum(0).expand(2, 3))


def test_per_example_gradients_come_from_vmap_of_grad():
    input, weight, bias = tensors((6,), 3, 2, True)

    def loss(function):
        return lambda x, w, b: function(x, w, b).square().sum()

    def per_example(function):
        return torch.func.vmap(torch.func.grad(loss(function), argnums=(0, 1, 2)), (0, None, None))(input, weight, bias)

    torch.testing.assert_close(per_example(linear), per_example(functional.linear))


def test_forward_mode_agrees_with_torch():
    inputs = tensors((4,), 3, 2, True)
    tangents = tensors((4,), 3, 2, True)
    ours, theirs = (torch.func.jvp(function, inputs, tangents) for function in (linear, functional.linear))
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast_dtypes_and_saved_bytes_are_those_of_torch(dtype):
    inputs = [value.requires_grad_() for value in tensors((8,), 5, 4, True, torch.float32)]
    with torch.autocast("cpu", dtype=dtype):
        ours, theirs = linear(*inputs), functional.linear(*inputs)
        assert saved_bytes(lambda: linear(*inputs)) <= saved_bytes(lambda: functional.linear(*inputs))
    assert ours.dtype == theirs.dtype == dtype
    for got, want in zip(
        torch.autograd.grad(ours.sum(), inputs), torch.autograd.grad(theirs.sum(), inputs), strict=True
    ):
        assert got.dtype == torch.float32
        torch.testing.assert_close(got, want, rtol=2e-2, atol=2e-2)


@pytest.mark.slow
def test_a_compiled_call_keeps_the_formulas():
    inputs = [value.requires_grad_() for value in tensors((4,), 3, 2, True)]
    compiled = torch.compile(lambda *args: linear(*args).square().sum(), fullgraph=True, backend="aot_eager")
    expected = torch.autograd.grad(functional.linear(*inputs).square().sum(), inputs)
    torch.testing.assert_close(torch.autograd.grad(compiled(*inputs), inputs), expected)


def test_shapes_that_do_not_fit_are_refused_as_by_torch():
    with pytest.raises(RuntimeError):
        linear(torch.randn(2, 3), torch.randn(4, 5))
