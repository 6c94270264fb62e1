"""normalize and cosine_similarity: torch's values and derivatives, zero vectors, and what is saved."""

import math

import pytest
import torch
from agreement import assert_agrees, gradients, saved_bytes
from half_precision import DTYPES, assert_within_rounding
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional

from gradsmith.catalog import cosine_similarity, normalize

ORDERS = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, math.inf, -math.inf]


def double(*shape):
    return torch.randn(shape, dtype=torch.float64)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=3),
    st.integers(-3, 2),
    st.sampled_from(ORDERS),
    st.booleans(),
    st.integers(0, 99),
)
def test_normalize_has_the_value_and_derivatives_of_torch_along_any_dimension(shape, axis, p, strided, seed):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x = x + 0.1 * x.sign()  # for p = -inf the norm is the smallest element, whose third power the derivatives divide by
    x = x.mT.contiguous().mT if strided and len(shape) > 1 else x
    dim = axis % len(shape) - len(shape) * (seed % 2)
    assert_agrees(
        lambda x: normalize(x, p, dim),
        lambda x: functional.normalize(x, p, dim),
        (x,),
        exact=False,
        rtol=1e-7,
        atol=1e-8,
    )


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 3.0])
@pytest.mark.parametrize("dim", [0, -1, (0, 2)])
def test_differences_of_normalize_agree_in_both_modes(p, dim, backend):
    x = double(5, 4, 6).requires_grad_()
    assert gradcheck(lambda x: normalize(x, p, dim), x, check_forward_ad=True)
    assert gradgradcheck(lambda x: normalize(x, p, dim), x)


@pytest.mark.parametrize("dim", [0, 1, 2])
def test_differences_of_cosine_similarity_agree_in_both_modes(dim, backend):
    inputs = double(5, 4, 6).requires_grad_(), double(4, 6).requires_grad_()
    ours = lambda x, y: cosine_similarity(x, y, dim)
    assert gradcheck(ours, inputs, check_forward_ad=True)
    assert gradgradcheck(ours, inputs)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=3),
    st.booleans(),
    st.booleans(),
    st.integers(-3, 2),
    st.integers(0, 99),
)
def test_cosine_similarity_has_the_value_and_derivatives_of_torch(shape, broadcast, strided, axis, seed):
    generator = torch.Generator().manual_seed(seed)
    x, y = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    x = x.mT.contiguous().mT if strided and len(shape) > 1 else x
    y = y[0] if broadcast and len(shape) > 1 else y
    dim = axis % len(shape) - len(shape) * (seed % 2)
    assert_agrees(
        lambda x, y: cosine_similarity(x, y, dim),
        lambda x, y: functional.cosine_similarity(x, y, dim),
        (x, y),
        exact=False,
        rtol=1e-7,
        atol=1e-8,
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(9, 33), (4, 3, 40), (40,)])
@pytest.mark.parametrize("dim", [0, -1])
def test_every_dtype_is_within_rounding_of_float64(dtype, shape, dim, backend):
    x, y = (torch.randn(shape).to(dtype) for _ in range(2))
    for p in (1.0, 2.0, 3.0):
        assert_within_rounding(lambda x: normalize(x, p, dim), lambda x: functional.normalize(x, p, dim), [x])  # noqa: B023
    assert_within_rounding(
        lambda x, y: cosine_similarity(x, y, dim), lambda x, y: functional.cosine_similarity(x, y, dim), [x, y]
    )


@pytest.mark.parametrize("p", ORDERS[1:])
def test_a_zero_vector_stays_zero_and_its_gradient_is_the_upstream_over_eps(p):
    x = torch.zeros(2, 3)
    x[1] = torch.tensor([3.0, 4.0, 1.0])
    upstream = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
    (got,) = gradients(lambda x: normalize(x, p, 1, 0.5), (x,), upstream)
    assert torch.equal(normalize(x, p, 1, 0.5)[0], torch.zeros(3))
    assert torch.equal(got, upstream / 0.5)


def test_the_cosine_of_a_zero_vector_is_zero_and_its_derivatives_are_finite():
    x, y = torch.zeros(1, 2, requires_grad=True), torch.tensor([[3.0, 4.0]], requires_grad=True)
    cosine = cosine_similarity(x, y, eps=0.5)
    for_x, for_y = torch.autograd.grad(cosine.sum(), (x, y), create_graph=True)
    assert cosine.item() == 0
    torch.testing.assert_close(for_x, y / 5 / 0.5)
    assert torch.equal(for_y, torch.zeros(1, 2))
    second = torch.autograd.grad(for_x.sum() + for_y.sum(), (x, y))
    assert all(gradient.isfinite().all() for gradient in second)


def test_vectors_shorter_than_eps_have_the_derivative_of_what_is_computed():
    x, y = torch.full((1, 3), 0.01, dtype=torch.float64, requires_grad=True), double(1, 3).requires_grad_()
    assert gradcheck(lambda x, y: cosine_similarity(x, y, eps=0.5), (x, y))
    assert gradcheck(lambda x: normalize(x, eps=0.5), x)


def test_complex_vectors_have_the_gradient_of_torch():
    x = torch.randn(3, 4, dtype=torch.complex128, requires_grad=True)
    assert gradcheck(normalize, x)
    upstream = torch.randn(3, 4, dtype=torch.complex128)
    torch.testing.assert_close(gradients(normalize, (x,), upstream), gradients(functional.normalize, (x,), upstream))


def test_no_vectors_and_no_dimension():
    for shape in ((0, 3), (2, 0), ()):
        x = torch.ones(shape)
        assert gradients(lambda x: normalize(x, dim=-1), (x,))[0].shape == x.shape
        ours, theirs = (
            gradients(lambda x, y, f=f: f(x, y, dim=-1), (x, x))
            for f in (cosine_similarity, functional.cosine_similarity)
        )
        torch.testing.assert_close(ours, theirs)


def test_normalize_saves_its_output_and_not_its_input():
    x = torch.randn(64, 32, requires_grad=True)
    keeps = lambda: normalize(x * 1)
    assert saved_bytes(keeps) == 4 * (64 * 32 + 64)
    assert saved_bytes(lambda: functional.normalize(x * 1)) >= 4 * (64 * 32 + 64)


def test_cosine_similarity_saves_no_normalised_vector():
    x, y = (torch.randn(64, 32, requires_grad=True) for _ in range(2))
    assert saved_bytes(lambda: cosine_similarity(x, y)) == 4 * (2 * 64 * 32 + 3 * 64)
    assert saved_bytes(lambda: functional.cosine_similarity(x, y)) > 2 * 4 * 2 * 64 * 32


def test_vmap_and_per_example_hessians_agree_with_torch():
    x, y = torch.randn(3, 2, 4), torch.randn(3, 2, 4)
    got, want = (
        torch.func.vmap(torch.func.hessian(lambda x, f=f: f(x).pow(3).sum()))(x)
        for f in (normalize, functional.normalize)
    )
    torch.testing.assert_close(got, want)
    got, want = (
        torch.func.vmap(torch.func.hessian(lambda x, y, f=f: f(x, y).sum(), argnums=(0, 1)))(x, y)
        for f in (cosine_similarity, functional.cosine_similarity)
    )
    torch.testing.assert_close(got, want)


def test_a_dimension_that_is_not_there_is_named():
    with pytest.raises(IndexError, match="normalize: dim is 2, expected from -2 to 1"):
        normalize(torch.randn(2, 3), dim=2)
    with pytest.raises(IndexError, match="cosine_similarity: dim is -3, expected from -2 to 1"):
        cosine_similarity(torch.randn(2, 3), torch.randn(2, 3), dim=-3)
