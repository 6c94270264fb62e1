"""What is meant is told from what is a mistake: identities and steps, judged at more than the values given."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import Function

from gradsmith.check import check


class Reversal(Function):
    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad):
        return -grad


class Square(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, grad):
        return 3 * ctx.saved_tensors[0] * grad


class Relu(Function):
    @staticmethod
    def forward(ctx, x):
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, grad):
        return 2 * grad


class Step(Function):
    @staticmethod
    def forward(ctx, x):
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx, grad):
        return grad


def of(value):
    return (torch.full((3,), value, requires_grad=True),)


@pytest.mark.parametrize("value", [1.0, 0.7, -2.0])
def test_an_identity_with_another_gradient_is_a_note_at_any_value(value):
    report = check(Reversal, of(value))
    assert report.ok
    assert "gradient-modifier" in report.codes


@pytest.mark.parametrize("function", [Square, Relu])
def test_what_is_its_input_at_one_value_alone_is_no_identity(function):
    report = check(function, of(1.0))
    assert not report.ok
    assert "gradient-modifier" not in report.codes


def test_a_step_with_a_gradient_is_a_surrogate():
    report = check(Step, of(0.5))
    assert report.ok
    assert "surrogate-gradient" in report.codes
