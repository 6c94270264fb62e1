"""The precision of a check is the finest that the Function takes, keeps and computes in."""

from __future__ import annotations

import pytest
import torch

from gradsmith.check.case import Case
from gradsmith.check.isolation import Raised
from gradsmith.check.subject import Subject


def subject(forward, *inputs):
    return Subject(Case(forward, inputs, name="f", argument_names=tuple("abc"[: len(inputs)])))


def single(dtype=torch.float32):
    return torch.linspace(0.1, 0.9, 5, dtype=dtype, requires_grad=True)


def only(*dtypes):
    def forward(x):
        if x.dtype not in dtypes:
            raise TypeError(f"no {x.dtype}")
        return x * 2

    return forward


@pytest.mark.parametrize("given", [torch.float32, torch.float64, torch.bfloat16])
def test_float64_where_it_is_taken_and_kept(given):
    found = subject(torch.exp, single(given))
    assert (found.dtype, found.inputs[0].dtype) == (torch.float64, torch.float64)


def test_complex_inputs_take_the_complex_dtype_that_belongs_to_it():
    found = subject(torch.exp, single().to(torch.complex64))
    assert (found.dtype, found.inputs[0].dtype) == (torch.float64, torch.complex128)


@pytest.mark.parametrize(
    "forward",
    [
        only(torch.float32),
        lambda x: x.float() * 2,  # returns another dtype than it was given
        lambda x: (x.float() / 3).to(x.dtype),  # keeps float64 in name alone
    ],
)
def test_float32_where_float64_is_refused_or_not_kept(forward):
    found = subject(forward, single())
    assert (found.dtype, found.inputs[0].dtype) == (torch.float32, torch.float32)


def test_values_that_fit_float32_by_chance_are_not_taken_for_single_precision():
    assert subject(lambda x: x * 2, torch.ones(4, requires_grad=True)).dtype is torch.float64


def test_as_given_where_nothing_else_is_taken():
    found = subject(only(torch.bfloat16), single(torch.bfloat16))
    assert (found.dtype, found.inputs[0].dtype) == (torch.bfloat16, torch.bfloat16)


def test_integers_stay_as_they_are():
    assert torch.equal(subject(torch.neg, torch.arange(3)).inputs[0], torch.arange(3))


def test_what_the_function_raises_on_its_own_inputs_comes_out():
    with pytest.raises(Raised, match=r"no torch\.float32"):
        subject(only(), single())
