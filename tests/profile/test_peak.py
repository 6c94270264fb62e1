"""The peak as torch's allocator has it: exact."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from gradsmith.profile.peak import usage
from gradsmith.profile.work import Work

SIZE = 1_000_000
BYTES = 4 * SIZE


def a_tensor(requires_grad: bool = True) -> Tensor:
    return torch.ones(SIZE, requires_grad=requires_grad)


def test_arguments_do_not_count_and_results_do() -> None:
    found = usage(Work("exp", torch.exp, (a_tensor(False),)))
    assert found.peak == BYTES
    assert found.allocations == 1
    assert found.operators == 1


def test_temporaries_count_while_they_live() -> None:
    def chain(x: Tensor) -> Tensor:
        for _ in range(5):
            x = x.neg()  # the old one is freed as the new one is bound: two at a time
        return x

    assert usage(Work("chain", chain, (a_tensor(False),))).peak == 2 * BYTES
    assert usage(Work("all", lambda x: [x.neg() for _ in range(5)], (a_tensor(False),))).peak == 5 * BYTES


def test_outputs_and_gradients_count() -> None:
    assert usage(Work("neg", torch.neg, (a_tensor(),))).peak == 2 * BYTES


def test_what_a_ctx_keeps_by_assignment_counts_here() -> None:
    class Keeps(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            ctx.kept = x.neg()
            return x.neg()

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            return grad * ctx.kept

    assert usage(Work("keeps", Keeps.apply, (a_tensor(),))).peak == 3 * BYTES


def test_it_is_the_same_in_every_run_and_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    work = Work("softmax", lambda x: x.softmax(0), (a_tensor(),))
    assert usage(work) == usage(work)
    assert capfd.readouterr() == ("", "")


def test_what_the_function_prints_to_standard_error_still_comes(capfd: pytest.CaptureFixture[str]) -> None:
    import sys

    work = Work("talks", lambda x: (print("here", file=sys.stderr), x.neg())[1], (torch.ones(1),))
    capfd.readouterr()
    usage(work)
    assert capfd.readouterr().err == "here\n"
