"""A verdict needs evidence: errors along directions in which the function is constant, kinks, opaque forwards."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.autograd import Function

from gradsmith.check import Case
from gradsmith.check.judge import judge
from gradsmith.check.subject import Subject


def x(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()


def verdict(function, *inputs, position=0):
    return judge(Subject(Case.of(function, inputs)), position)


class Unit(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x / x.norm(dim=-1, keepdim=True)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        length = x.norm(dim=-1, keepdim=True)
        unit = x / length
        return (grad - unit * (grad * unit).sum(-1, keepdim=True)) / length


class LacksProjection(Unit):
    @staticmethod
    def backward(ctx, grad):
        return grad / ctx.saved_tensors[0].norm(dim=-1, keepdim=True)


class CubeRoot(Function):
    @staticmethod
    def forward(ctx, x):
        out = torch.from_numpy(np.cbrt(x.detach().numpy()))
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx, grad):
        return grad / (3 * ctx.saved_tensors[0] ** 2)


class OneWrong(CubeRoot):
    @staticmethod
    def backward(ctx, grad):
        found = grad / (3 * ctx.saved_tensors[0] ** 2)
        found[1] *= 1.05
        return found


def test_an_error_along_which_the_function_does_not_change_is_seen():
    assert verdict(Unit, x(4, 3)).verdict == "right"
    judgement = verdict(LacksProjection, x(4, 3))
    assert judgement.verdict == "wrong"
    assert judgement.oracle == "replay"


def test_a_forward_that_torch_cannot_differentiate_is_judged_by_differences():
    values = x(5).detach().abs().add(0.5).requires_grad_()
    assert verdict(CubeRoot, values).verdict == "right"
    judgement = verdict(OneWrong, values)
    assert (judgement.verdict, judgement.oracle) == ("wrong", "differences")
    assert judgement.wrong.nonzero().tolist() == [[1]]
    assert judgement.expected[1].item() == pytest.approx(judgement.got[1].item() / 1.05, rel=1e-6)
    assert judgement.error < 1e-6


def test_a_forward_that_gives_no_number_convicts_nobody():
    judgement = verdict(CubeRoot, torch.tensor([1.0, float("nan")], dtype=torch.float64, requires_grad=True))
    assert judgement.verdict == "unknown"
    assert "NaN" in judgement.reason
