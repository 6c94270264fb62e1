"""bilinear: torch's values, and gradients by matrix products over some rows at a time."""

import pytest
import torch
from agreement import assert_agrees, saved_bytes
from half_precision import DTYPES, assert_within_rounding
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional

from gradsmith.catalog import bilinear


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 3), max_size=2),
    st.tuples(*[st.integers(1, 4)] * 3),
    st.booleans(),
    st.booleans(),
    st.integers(0, 99),
)
def test_value_and_derivatives_are_those_of_torch(leading, sizes, biased, strided, seed):
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(shape, generator=generator, dtype=torch.float64)
    first, second, outputs = sizes
    inputs = [draw(*leading, first), draw(*leading, second), draw(outputs, first, second)]
    inputs = [value.mT.contiguous().mT if strided and value.dim() > 1 else value for value in inputs]
    inputs += [draw(outputs)] if biased else []
    assert_agrees(bilinear, functional.bilinear, tuple(inputs), exact=False, rtol=1e-9, atol=1e-12)


def test_differences_agree_in_both_modes(backend):
    double = lambda *shape: torch.randn(shape, dtype=torch.float64, requires_grad=True)
    inputs = double(9, 4), double(9, 5), double(3, 4, 5), double(3)
    assert gradcheck(bilinear, inputs, check_forward_ad=True)
    assert gradgradcheck(bilinear, inputs)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("outputs", [1, 6])
def test_every_dtype_is_within_rounding_of_float64(dtype, outputs, backend):
    inputs = [torch.randn(shape).to(dtype) for shape in ((5, 7, 12), (5, 7, 9), (outputs, 12, 9), (outputs,))]
    assert_within_rounding(bilinear, functional.bilinear, inputs)


@pytest.mark.parametrize("frozen", [0, 1, 2])
def test_only_the_two_that_a_gradient_needs_are_saved(frozen):
    tensors = [torch.randn(16, 32), torch.randn(16, 8), torch.randn(4, 32, 8)]
    tensors[frozen].requires_grad_()
    others = sum(4 * value.numel() for index, value in enumerate(tensors) if index != frozen)
    assert saved_bytes(lambda: bilinear(*tensors)) == others
    assert saved_bytes(lambda: functional.bilinear(*tensors)) >= others


def test_per_example_gradients_agree_with_torch():
    inputs = torch.randn(3, 4), torch.randn(3, 5), torch.randn(2, 4, 5)
    got, want = (
        torch.func.vmap(torch.func.grad(lambda *x, f=f: f(*x).square().sum(), argnums=(0, 1, 2)), (0, 0, None))(*inputs)
        for f in (bilinear, functional.bilinear)
    )
    torch.testing.assert_close(got, want)


def test_shapes_that_do_not_fit_are_refused_as_by_torch():
    with pytest.raises(RuntimeError):
        bilinear(torch.randn(2, 3), torch.randn(2, 4), torch.randn(1, 4, 4))
