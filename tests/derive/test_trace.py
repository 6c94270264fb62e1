"""What tracing takes from a forward, and what it refuses."""

from __future__ import annotations

import math
from math import sqrt

import numpy as np
import pytest
import torch
from shown import real

from gradsmith.derive import DeriveError, derive

OUTSIDE = torch.ones(3, dtype=torch.float64)


def written(x):
    x = x * 2
    x += 1
    return x


def branching(x):
    return x if x.sum() > 0 else -x


def looping(x):
    return [value.exp() for value in x.tolist()]


def converting(x):
    return x * x.mean().item()


def outside(x):
    return x * OUTSIDE


def numpy_number(x):
    return x * np.sqrt(x.shape[0])


def assigning(x):
    y = x * 2
    y[0] = 1
    return y


def number(x):
    return 3.0


def listed(x):
    return [x, x]


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (written, "`add_` writes to a tensor in place"),
        (assigning, "`setitem` writes to a tensor in place"),
        (branching, "turns the elements of a tensor into plain values"),
        (looping, "turns the elements of a tensor into plain values"),
        (converting, "turns the elements of a tensor into plain values"),
        (numpy_number, r"torch's `mul` has no rule with a numpy\.float64 among its arguments"),
        (outside, r"a tensor of shape \(3,\) is used that is no argument"),
    ],
)
def test_what_cannot_be_printed_is_refused_with_its_line(forward, message):
    with pytest.raises(DeriveError, match=message + r".*test_trace\.py:\d+\)"):
        derive(forward, real(3))


@pytest.mark.parametrize(
    ("forward", "inputs", "message"),
    [
        (number, (real(3),), "number returned a float; it must return a tensor"),
        (listed, (real(3),), "listed returned a list; it must return a tensor or a tuple"),
        (written, (), r"written\(x\) does not take the example inputs: missing"),
        (written, ([real(3)],), "`x` of written is a list of tensors; give each its name"),
        (written, (torch.ones(3, dtype=torch.complex64),), "`x` of written is complex"),
        (torch.exp, (real(3),), "the arguments of exp cannot be read; wrap it in a function"),
        (lambda x, torch: x, (real(3), real(3)), "the argument `torch` of f has the name of a module"),
        (lambda x, f=torch.exp: f(x), (real(3),), "the default of `f` of f cannot be printed"),
        (lambda x, f: f(x), (real(3), torch.exp), "`f` of f is a builtin_function_or_method, which cannot be printed"),
        (lambda *xs: xs[0], (real(3),), r"takes \*xs; name its arguments one by one"),
    ],
)
def test_wrong_inputs_and_outputs_are_refused(forward, inputs, message):
    with pytest.raises(DeriveError, match=message):
        derive(forward, *inputs)


def test_a_name_in_differentiable_must_be_a_floating_argument():
    with pytest.raises(
        DeriveError, match="`y` in differentiable= is no floating-point tensor argument of f; those are x"
    ):
        derive(lambda x, y: x[y], real(3), torch.tensor([0]), differentiable=["y"])


def test_the_error_of_the_forward_itself_is_not_hidden():
    with pytest.raises(RuntimeError, match="size"):
        derive(lambda x, y: x + y, real(3, 4), real(5, 7))


def test_sizes_are_computed_with_and_stay_sizes():
    def scaled(x):
        rows, columns = x.shape
        half = columns // 2
        return x[:, :half] * rows / math.sqrt(columns) + sqrt(x.size(-1)) + x.shape.numel() ** 0.5

    op = derive(scaled, real(3, 4)).op
    for shape in ((3, 4), (2, 6), (5, 3)):
        x = real(*shape).requires_grad_()
        torch.testing.assert_close(op(x), scaled(x))
        assert torch.autograd.gradcheck(op, [x])


def test_math_and_range_are_as_before_afterwards():
    before = math.sqrt, sqrt
    derive(lambda x: x / math.sqrt(x.shape[0]), real(3))
    with pytest.raises(DeriveError):
        derive(converting, real(3))
    assert (math.sqrt, sqrt) == before
    assert "range" not in globals()


def test_what_is_computed_without_grad_has_no_gradient():
    def scaled(x):
        with torch.no_grad():
            scale = x.abs().amax()
        return x / scale

    result = derive(scaled, real(3))
    x = real(3).requires_grad_()
    (gradient,) = torch.autograd.grad(result.op(x).sum(), x)
    torch.testing.assert_close(gradient, (1 / x.abs().amax()).detach().expand(3))


def test_helpers_are_written_out():
    def twice(x):
        return x + x

    result = derive(lambda x: twice(twice(x)).exp(), real(3))
    assert torch.autograd.gradcheck(result.op, [real(3).requires_grad_()])


def test_a_long_forward_is_no_deeper_than_a_short_one():
    def iterated(x, w):
        for _ in range(300):
            x = torch.tanh(w * x)
        return x

    x, w = real(3), real(3)
    op = derive(iterated, x, w).op
    x.requires_grad_()
    torch.testing.assert_close(torch.autograd.grad(op(x, w).sum(), x), torch.autograd.grad(iterated(x, w).sum(), x))


def test_an_op_computed_twice_is_computed_once():
    source = derive(lambda x: torch.exp(x) * x.exp(), real(3)).source
    assert "    exp = torch.exp(x)\n    return exp * exp\n" in source
