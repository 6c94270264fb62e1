"""swiglu_linear: the values and gradients of the three steps, with the middle one not saved."""

import pytest
import torch
from agreement import saved_bytes
from half_precision import DTYPES, assert_within_rounding
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional

from gradsmith import check
from gradsmith.catalog import swiglu_linear


def theirs(gate, up, weight, bias=None):
    return functional.linear(functional.silu(gate) * up, weight, bias)


def double(*shape):
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("bias", [None, double(4)])
@pytest.mark.parametrize("lead", [(), (3,), (2, 3), (0,)])
def test_differences_agree_in_both_modes_and_orders(lead, bias):
    inputs = (double(*lead, 5), double(*lead, 5), double(4, 5), *([] if bias is None else [bias]))
    torch.testing.assert_close(swiglu_linear(*inputs), theirs(*inputs))
    assert gradcheck(swiglu_linear, inputs, check_forward_ad=True)
    assert gradgradcheck(swiglu_linear, inputs)


@pytest.mark.parametrize("bias", [None, double(4)])
def test_the_checker_has_nothing_to_say(bias, backend):
    assert check(swiglu_linear, (double(2, 3, 5), double(2, 3, 5), double(4, 5), bias)).findings == ()


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_is_within_rounding_of_float64(dtype, backend):
    gate, up, weight = (torch.randn(shape).to(dtype) for shape in ((7, 33), (7, 33), (20, 33)))

    def rounded(gate, up, weight):  # between the steps there is one rounding, of which the exact has none
        middle = functional.silu(gate) * up
        return functional.linear(middle + (middle.to(dtype).double() - middle).detach(), weight)

    assert_within_rounding(swiglu_linear, rounded, (gate, up, weight), 8)


@pytest.mark.parametrize("needed", [0, 1, 2])
def test_only_what_is_needed_is_computed(needed, backend):
    inputs = [torch.randn(shape) for shape in ((6, 9), (6, 9), (4, 9))]
    inputs[needed].requires_grad_()
    got, want = (torch.autograd.grad(f(*inputs).square().sum(), inputs[needed])[0] for f in (swiglu_linear, theirs))
    torch.testing.assert_close(got, want)


def test_the_middle_is_not_saved(backend):
    gate, up, weight = (torch.randn(shape, requires_grad=True) for shape in ((8, 64), (8, 64), (4, 64)))
    assert saved_bytes(lambda: swiglu_linear(gate, up, weight)) == 4 * 64 * (8 + 8 + 4)
    assert saved_bytes(lambda: theirs(gate, up, weight)) == 4 * 64 * (8 * 4 + 4)


def test_what_does_not_fit_together_is_named():
    with pytest.raises(RuntimeError, match=r"swiglu_linear: `up` is torch.float32 of shape \[3\], expected"):
        swiglu_linear(torch.randn(2, 3), torch.randn(3), torch.randn(2, 3))
