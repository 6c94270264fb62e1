"""A repair names the expression at fault, holds beyond the point, and never runs what is not plain torch."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch.autograd import Function

from gradsmith.check import Case, check
from gradsmith.check.diagnosis.repair import repairs
from gradsmith.check.diagnosis.rewriting import rewritings
from gradsmith.check.diagnosis.source import backward_of
from gradsmith.check.judge import judge
from gradsmith.check.subject import Subject

SCALE = 3.0


def x(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()


def repair_of(function, *inputs):
    """The rewriting for each argument, by name."""
    subject = Subject(Case.of(function, inputs))
    judgements = [judge(subject, position) for position in subject.arguments]
    return {subject.argument(i): rewriting for i, rewriting in repairs(subject, judgements).items()}


class Sigmoid(Function):
    @staticmethod
    def forward(ctx, x):
        out = torch.sigmoid(x)
        ctx.save_for_backward(out)
        return out


class WrongSign(Sigmoid):
    @staticmethod
    def backward(ctx, grad):
        (out,) = ctx.saved_tensors
        return grad * out * (1 + out)


class LacksTerm(Sigmoid):
    @staticmethod
    def backward(ctx, grad):
        (out,) = ctx.saved_tensors
        return grad * out * 1


class WrongSave(Sigmoid):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.sigmoid(x)

    @staticmethod
    def backward(ctx, grad):
        (out,) = ctx.saved_tensors
        return grad * out * (1 - out)


class Helped(Sigmoid):
    @staticmethod
    def backward(ctx, grad):
        (out,) = ctx.saved_tensors
        return slope(out) * grad


class InPlace(Sigmoid):
    @staticmethod
    def backward(ctx, grad):
        (out,) = ctx.saved_tensors
        return (grad * out).mul_(1 + out)


def slope(out):
    return out * (1 + out)


class TwoFaults(Function):
    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x, y)
        return x.sin() * y.exp() * SCALE

    @staticmethod
    def backward(ctx, grad):
        x, y = ctx.saved_tensors
        return grad * x.sin() * y.exp() * SCALE, grad * x.sin() * y.log().abs() * math.pi


class SharedFault(TwoFaults):
    @staticmethod
    def backward(ctx, grad):
        x, y = ctx.saved_tensors
        scaled = (grad + y.exp()) * SCALE
        return scaled * x.cos(), scaled * x.sin()


@pytest.mark.parametrize(
    ("function", "before", "after"),
    [(WrongSign, "1 + out", "1 - out"), (LacksTerm, "1", "1 - out"), (WrongSave, "x", "the output")],
)
def test_the_expression_at_fault_is_named(function, before, after):
    found = repair_of(function, x(3, 4))["x"]
    assert (found.before, found.after) == (before, after)


def test_the_line_is_the_authors_and_the_report_says_it():
    (found,) = check(WrongSign, (x(3, 4),)).of("error")
    line = found.evidence["repair"]["line"]
    text = Path(__file__).read_text().splitlines()[line - 1]
    assert text.strip() == "return grad * out * (1 + out)"
    assert f"it is right with `1 - out` for `1 + out` on line {line}" in found.message


def test_one_fault_in_what_arguments_share_is_repaired_for_both():
    found = repair_of(SharedFault, x(3), x(3, seed=1))
    assert found["x"] == found["y"]
    assert (found["x"].before, found["x"].after) == ("grad + y.exp()", "grad * y.exp()")


def test_each_argument_may_have_a_repair_of_its_own_or_none():
    found = repair_of(TwoFaults, x(3), x(3, seed=1))
    assert (found["x"].before, found["x"].after) == ("x.sin", "x.cos")
    assert "y" not in found


@pytest.mark.parametrize("function", [Helped, InPlace])
def test_a_backward_that_calls_more_than_torch_or_writes_is_never_rewritten(function):
    assert backward_of(Case.of(function, (x(3),))) is None
    assert repair_of(function, x(3)) == {}


def test_the_class_is_left_as_it_was():
    before = dict(vars(WrongSign))
    repair_of(WrongSign, x(3))
    assert dict(vars(WrongSign)) == before


def test_a_closure_is_kept():
    factor = torch.tensor(2.0, dtype=torch.float64)

    class Closed(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return factor * x.sin()

        @staticmethod
        def backward(ctx, grad):
            (x,) = ctx.saved_tensors
            return grad * factor * x.sin()

    assert repair_of(Closed, x(3))["x"].after == "x.cos"


def test_the_tree_is_whole_again_after_every_rewriting():
    backward = backward_of(Case.of(WrongSign, (x(3),)))
    sources = [rewriting.after for rewriting in rewritings(backward)]
    assert len(sources) > 100
    ctx = torch.sigmoid(x(3))
    assert (
        backward.compiled()(type("Context", (), {"saved_tensors": (ctx,)}), 2.0).tolist()
        == (2.0 * ctx * (1 + ctx)).tolist()
    )
