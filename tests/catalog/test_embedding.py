"""embedding: torch's values and gradients in every option, sums of a row's gradient in float32."""

import pytest
import torch
from agreement import assert_agrees, gradients, saved_bytes
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional

from gradsmith import check
from gradsmith.catalog.embedding import embedding

INDICES = torch.tensor([[0, 2, 2], [4, 2, 1]])


def table(rows=5, width=3):
    return torch.randn(rows, width, dtype=torch.float64, requires_grad=True)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 3), max_size=2),
    st.integers(1, 5),
    st.integers(1, 3),
    st.sampled_from([None, 0, -1]),
    st.sampled_from([torch.int32, torch.int64]),
    st.integers(0, 99),
)
def test_value_and_derivatives_are_those_of_torch(shape, rows, width, padding, dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    indices = torch.randint(0, rows, shape, generator=generator).to(dtype)
    weight = torch.randn(rows, width, generator=generator, dtype=torch.float64)
    assert_agrees(
        lambda w: embedding(indices, w, padding),
        lambda w: functional.embedding(indices, w, padding),
        (weight,),
        rtol=1e-9,
        atol=1e-12,
    )


@pytest.mark.parametrize("padding", [None, 2])
def test_by_frequency_a_gradient_is_the_mean_as_torch_has_it_whose_second_derivative_forgets_it(padding):
    weight = table()
    got, want = (
        gradients(lambda w, f=f: f(INDICES, w, padding, scale_grad_by_freq=True).cos(), (weight,))
        for f in (embedding, functional.embedding)
    )
    torch.testing.assert_close(got, want)


def test_no_indices_give_the_gradient_zero_and_second_derivatives_where_torch_fails():
    weight = table()
    out = embedding(torch.zeros(2, 0, dtype=torch.long), weight)
    (first,) = torch.autograd.grad(out.square().sum(), weight, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), weight)
    assert out.shape == (2, 0, 3)
    assert torch.equal(first, torch.zeros(5, 3, dtype=torch.float64))
    assert torch.equal(second, torch.zeros(5, 3, dtype=torch.float64))


@pytest.mark.parametrize("options", [{}, {"scale_grad_by_freq": True}])
def test_differences_agree_in_both_modes(options):
    if not options:
        assert gradcheck(lambda w: embedding(INDICES, w), table(), check_forward_ad=True)
    assert gradgradcheck(lambda w: embedding(INDICES, w, **options), table())


def test_the_row_of_the_padding_gets_no_gradient_and_is_looked_up_all_the_same():
    weight = table()
    out = embedding(INDICES, weight, 2)
    (gradient,) = torch.autograd.grad(out.sum(), weight)
    assert torch.equal(out[0, 1], weight[2])
    assert gradient[:, 0].tolist() == [1, 1, 0, 0, 1]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_row_that_occurs_often_gets_all_of_its_gradient_in_half_precision(dtype):
    indices = torch.zeros(1000, dtype=torch.long)
    (gradient,) = gradients(lambda w: embedding(indices, w), (torch.zeros(2, 3, dtype=dtype),))
    assert gradient.dtype == dtype
    assert gradient[0].tolist() == [1000, 1000, 1000]


def test_a_transposed_table_and_transposed_indices_give_the_same():
    weight = torch.randn(3, 5, dtype=torch.float64).mT
    want = gradients(lambda w: embedding(INDICES, w).cos(), (weight.contiguous(),))
    torch.testing.assert_close(gradients(lambda w: embedding(INDICES, w).cos(), (weight,)), want)
    strided = INDICES.mT.contiguous().mT
    torch.testing.assert_close(gradients(lambda w: embedding(strided, w).cos(), (weight,)), want)


def test_only_the_indices_are_saved():
    weight = torch.randn(50, 64, requires_grad=True)
    assert saved_bytes(lambda: embedding(INDICES, weight)) == 8 * INDICES.numel()


def test_vmap_over_indices_and_tables_agrees_with_torch():
    weights, indices = torch.randn(2, 5, 3), torch.randint(0, 5, (2, 4))
    got, want = (
        torch.func.vmap(torch.func.grad(lambda w, i, f=f: f(i, w).square().sum()))(weights, indices)
        for f in (embedding, functional.embedding)
    )
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("options", [{}, {"padding_idx": 2}])
def test_the_checker_finds_neither_error_nor_warning_beside_torchs_function(options):
    report = check(embedding, (INDICES, table()), options, reference=functional.embedding)
    assert report.of("error") == report.of("warning") == ()


def test_an_index_or_a_padding_out_of_range_is_named():
    with pytest.raises(IndexError, match="input must hold indices from 0 to 4, the rows of weight; got 0 to 5"):
        embedding(torch.tensor([0, 5]), table())
    with pytest.raises(ValueError, match="padding_idx must be from -5 to 4, got 5"):
        embedding(INDICES, table(), 5)
