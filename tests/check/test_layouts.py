"""Layouts keep the values; those in which elements share memory keep the values that fit."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradsmith.check import check
from gradsmith.check.inputs import fresh
from gradsmith.check.layouts import LAYOUTS, SHARED, broadcast, channels_last, overlapping

SHAPES = st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple)


def values(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@given(SHAPES)
@pytest.mark.parametrize("lay_out", [*LAYOUTS.values(), channels_last])
def test_a_layout_keeps_every_value(lay_out, shape):
    tensor = values(shape)
    assert torch.equal(lay_out(tensor), tensor)


@given(SHAPES)
@pytest.mark.parametrize("lay_out", SHARED.values(), ids=SHARED)
def test_values_that_fit_a_shared_layout_are_kept_by_it(lay_out, shape):
    tensor = lay_out(values(shape)).contiguous().clone()
    assert torch.equal(lay_out(tensor), tensor)


def test_a_broadcast_tensor_is_stored_once_along_its_first_dimension():
    laid_out = broadcast(values((1, 3, 4)))
    assert laid_out.stride() == (4, 0, 1)
    assert torch.equal(laid_out, values((1, 3, 4))[:, :1].expand(1, 3, 4))


def test_the_rows_of_an_overlapping_tensor_are_windows_of_one_signal():
    laid_out = overlapping(values((2, 3, 4)))
    assert laid_out.stride()[-2:] == (1, 1)
    assert torch.equal(laid_out[:, 1:, :-1], laid_out[:, :-1, 1:])


@given(SHAPES)
@pytest.mark.parametrize("lay_out", SHARED.values(), ids=SHARED)
def test_every_element_of_a_shared_layout_has_its_own_gradient_and_room_behind_it(lay_out, shape):
    leaf = values(shape).requires_grad_()
    laid_out = lay_out(leaf)
    upstream = values(shape) + 1
    (grad,) = torch.autograd.grad(laid_out, leaf, upstream)
    assert torch.equal(grad, upstream)
    assert laid_out.untyped_storage().nbytes() >= laid_out.numel() * laid_out.element_size()


def test_a_layout_reaches_every_tensor_in_a_container():
    _, (given_,) = fresh(({"a": [values((2, 3))], "b": 2},), (False,), {0: LAYOUTS["transposed"]})
    assert given_["a"][0].stride() == (1, 2)
    assert given_["b"] == 2
    assert torch.equal(given_["a"][0], values((2, 3)))


class ScaledByTheFirst(torch.autograd.Function):
    """Reads the constants in its list in the order of the memory."""

    @staticmethod
    def forward(ctx, x, constants):
        ctx.save_for_backward(constants[0].as_strided(x.shape, (x.shape[1], 1)))
        return x * constants[0]

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.saved_tensors[0], None


def test_an_argument_that_is_a_list_of_constants_is_laid_out_anew():
    report = check(ScaledByTheFirst, (values((2, 3)).requires_grad_(), [values((2, 3)) + 2]), only="layout-dependent")
    assert [found.argument for found in report.of("error")] == ["constants"]
