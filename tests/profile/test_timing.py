"""Timing in turn: what is measured, in which order, and which rounds count."""

from __future__ import annotations

import gc
import time
from typing import Any

import pytest
import torch
from torch import Tensor

from gradsmith.profile import load, timing
from gradsmith.profile.load import Load
from gradsmith.profile.timing import FEWEST, Round, Sample, Spread, interleave, time_call, trusted
from gradsmith.profile.work import Work


class Sleeps(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        time.sleep(0.01)
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        time.sleep(0.03)
        return grad


def a_work(name: str = "exp", calls: list[str] | None = None) -> Work:
    def function(x: Tensor) -> Tensor:
        if calls is not None:
            calls.append(name)
        return x.exp()

    return Work(name, function, (torch.ones(1, requires_grad=True),))


def test_forward_and_backward_are_timed_apart() -> None:
    sample = time_call(Work("sleeps", Sleeps.apply, (torch.ones(1, requires_grad=True),)))
    assert 0.01 <= sample.forward < 0.03
    assert 0.03 <= sample.backward < 0.1
    assert sample.total == sample.forward + sample.backward


def test_without_gradients_the_forward_alone_is_timed() -> None:
    sample = time_call(Work("sleeps", Sleeps.apply, (torch.ones(1),)))
    assert sample.forward >= 0.01
    assert sample.backward == 0


def test_every_work_has_its_turn_in_every_round_and_the_order_turns_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "_calls_in_a_slot", lambda work: 1)
    calls: list[str] = []
    works = [a_work(name, calls) for name in "abc"]
    calls.clear()
    rounds = interleave(works, 0.0)
    assert len(rounds) == FEWEST
    assert "".join(calls) == "abccbaabccbaabc"
    assert set(rounds[0].samples) == set(works)


def test_short_calls_are_repeated_within_a_round() -> None:
    calls: list[str] = []
    interleave([a_work("short", calls)], 0.0)
    assert len(calls) > 50 * FEWEST


def test_the_garbage_collector_rests_meanwhile_and_wakes_up_again() -> None:
    seen: set[bool] = set()

    def function(x: Tensor) -> Tensor:
        seen.add(gc.isenabled())
        return x.exp()

    work = Work("f", function, (torch.ones(1),))
    seen.clear()
    time_call(work)
    assert seen == {True}
    seen.clear()
    interleave([work], 0.0)
    assert False in seen
    assert gc.isenabled()


def rounds_with(*others: float | None) -> list[Round]:
    return [Round({}, busy) for busy in others]


def test_rounds_in_which_others_were_busy_do_not_count() -> None:
    rounds = rounds_with(0.0, 1.0, 0.1, 0.2, 2.0, 0.0, 0.3)
    assert trusted(rounds) == [rounds[i] for i in (0, 2, 3, 5, 6)]


def test_where_too_few_are_quiet_all_count() -> None:
    rounds = rounds_with(0.0, 1.0, 1.0, 1.0, 1.0)
    assert trusted(rounds) == rounds


def test_rounds_of_which_the_load_is_unknown_count() -> None:
    rounds = rounds_with(*[None] * 6)
    assert trusted(rounds) == rounds


def test_a_spread_is_the_median_and_the_quartiles() -> None:
    assert Spread.of([5.0, 1.0, 2.0, 4.0, 3.0]) == Spread(3.0, 2.0, 4.0)


def test_a_sample_adds_up() -> None:
    assert Sample(1.0, 2.0).total == 3.0


def test_the_load_leaves_the_own_work_out(monkeypatch: pytest.MonkeyPatch) -> None:
    machine, own = iter([100.0, 103.0]), iter([10.0, 11.0])
    clock = iter([0.0, 2.0])
    monkeypatch.setattr(load, "_machine_seconds", lambda: next(machine))
    monkeypatch.setattr(load, "_own_seconds", lambda: next(own))
    monkeypatch.setattr(load.time, "perf_counter", lambda: next(clock))
    assert Load().others() == 1.0


def test_the_load_is_unknown_where_the_system_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "_machine_seconds", lambda: None)
    assert Load().others() is None
