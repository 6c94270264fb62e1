"""The printed text, word for word, and what holds for all of it."""

from __future__ import annotations

import ast

import pytest
import torch
from shown import CASES, attention, layer_norm, polynomial, real, softmax, swiglu

from gradsmith.derive import derive

SOFTMAX = """\
import torch

import gradsmith as gs


@gs.op(x=lambda grad, out: out * (grad - (grad * out).sum(-1, keepdim=True)))
def softmax(x):
    return torch.softmax(x, -1)
"""

LAYER_NORM = '''\
import torch

import gradsmith as gs


@gs.op(bias=lambda grad, bias_shape: grad.sum_to_size(bias_shape))
def layer_norm(x, weight, bias, eps=1e-05):
    """Layer norm over the last dimension."""
    mean = x.mean(-1, keepdim=True)
    var = x.var(-1, correction=0, keepdim=True)
    rstd = torch.rsqrt(var + eps)
    xhat = (x - mean) * rstd
    return gs.keep(xhat * weight + bias, mean=mean, rstd=rstd)


@layer_norm.vjp("x")
def _(grad, x, weight, mean, rstd):
    grad_xhat = grad * weight
    difference = x - mean
    product = (grad_xhat * difference).mean(-1, keepdim=True) * rstd**3
    difference2 = grad_xhat * rstd - product * difference
    return difference2 - grad_xhat.mean(-1, keepdim=True) * rstd


@layer_norm.vjp("weight")
def _(grad, x, weight_shape, mean, rstd):
    return (grad * (x - mean) * rstd).sum_to_size(weight_shape)
'''

SWIGLU = """\
import torch
import torch.nn.functional as F

import gradsmith as gs


@gs.op(x=lambda grad, gate: grad * F.silu(gate))
def swiglu(x, gate):
    return F.silu(gate) * x


@swiglu.vjp("gate")
def _(grad, x, gate):
    sigmoid = torch.sigmoid(gate)
    return grad * x * sigmoid * (gate * (1 - sigmoid) + 1)
"""

POLYNOMIAL = """\
import gradsmith as gs


@gs.op(
    x=lambda grad, x, a, b, c: grad * (c + 2 * b * x + 3 * a * x**2),
    a=lambda grad, x: grad * x**3,
    b=lambda grad, x: grad * x**2,
    c=lambda grad, x: grad * x,
)
def polynomial(x, a, b, c):
    return a * x**3 + b * x**2 + c * x
"""


@pytest.mark.parametrize(
    ("forward", "shapes", "text"),
    [
        (softmax, [(3, 4)], SOFTMAX),
        (layer_norm, [(2, 3, 4), (4,), (4,)], LAYER_NORM),
        (swiglu, [(3, 4), (3, 4)], SWIGLU),
        (polynomial, [(3,), (3,), (3,), (3,)], POLYNOMIAL),
    ],
    ids=["softmax", "layer_norm", "swiglu", "polynomial"],
)
def test_the_printed_text(forward, shapes, text):
    torch.manual_seed(0)
    assert derive(forward, *[real(*shape) for shape in shapes]).source == text


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_line_fits_and_every_import_is_used(case):
    source = derive(case.forward, *case.example()).source
    assert max(map(len, source.splitlines())) <= 100
    names = {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}
    for line, name in (("import torch\n", "torch"), ("functional as F\n", "F"), ("import math\n", "math")):
        assert (line in source) == (name in names)


def test_the_shape_in_the_example_is_not_in_the_text():
    source = derive(attention, real(3, 17), real(5, 17), real(5, 19)).source
    assert "17" not in source
    assert "19" not in source
    assert "math.sqrt(q.shape[-1])" in source


def test_a_size_that_decided_something_stands_in_a_comment():
    def by_range(x):
        total = x[0]
        for row in range(1, x.shape[0]):
            total = total + x[row]
        return total

    def by_row(x):
        return torch.stack([row.exp() for row in x])

    def by_branch(x):
        return x / 2 if x.dim() == 2 else x

    head = "# Derived for arguments where, as in the example:\n"
    for forward, fact in (
        (by_range, "x.shape[0] is 3"),
        (by_row, "x.shape[0] is 3"),
        (by_branch, "x.ndim == 2 is True"),
    ):
        assert f"{head}#   {fact}\n" in derive(forward, real(3, 4)).source


def test_the_author_docstring_and_variables_stay():
    def gate(x, w):
        """Gate x.

        Twice.
        """
        hidden = torch.sigmoid(x @ w)
        return hidden * x

    source = derive(gate, real(3, 3), real(3, 3)).source
    assert '    """Gate x.\n\n    Twice.\n    """\n    hidden = torch.sigmoid(x @ w)\n' in source
    assert "hidden=hidden" in source
    assert "grad * x * hidden * (1 - hidden)" in source


def test_a_dtype_read_off_an_argument_is_read_off_it_again():
    def rms(x):
        wide = x.float()
        return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)).to(x.dtype)

    result = derive(rms, torch.randn(3, 4))
    assert ".to(x.dtype)" in result.source
    x = torch.randn(3, 4, dtype=torch.bfloat16, requires_grad=True)
    assert result.op(x).dtype == torch.bfloat16
    (gradient,) = torch.autograd.grad(result.op(x).sum(), x)
    (expected,) = torch.autograd.grad(rms(x).sum(), x)
    torch.testing.assert_close(gradient, expected, atol=1e-2, rtol=1e-2)


def test_parameters_keep_their_kinds_and_defaults():
    def scaled(x, *, factor=2.5, mode="plain", shift=None):
        return x * factor if mode == "plain" and shift is None else x

    source = derive(scaled, real(3)).source
    assert 'def scaled(x, *, factor=2.5, mode="plain", shift=None):' in source
    assert '    if mode != "plain":\n' in source
    assert "    if shift is not None:\n" in source
