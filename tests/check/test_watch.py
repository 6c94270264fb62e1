"""A call that does not return is stopped, where Python can stop it, and costs what it must and no more."""

from __future__ import annotations

import importlib
import math
import subprocess
import sys
import threading
import time

import pytest
import torch

from gradsmith.check import check
from gradsmith.check.isolation import Raised, user_code

watch = importlib.import_module("gradsmith.check.watch")


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    for name, seconds in {"FIRST": 0.5, "CHECK": 1.5, "TICK": 0.05}.items():
        monkeypatch.setattr(watch, name, seconds)


def forever():
    while True:
        pass


def stubborn():
    end = time.monotonic() + 5
    while time.monotonic() < end:
        try:
            forever()
        except BaseException:
            if time.monotonic() > began + 1:
                raise


class Twice(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, grad):
        return 2 * grad


def x(*shape):
    return torch.full(shape, 0.7, dtype=torch.float64, requires_grad=True)


def test_a_call_that_does_not_return_raises_where_it_is():
    with watch.watching() as watched:
        watched.allow(math.inf)
        with pytest.raises(Raised, match="forward raises Overdue: it has not returned") as caught, user_code("forward"):
            forever()
    frames = traceback_of(caught.value.error)
    assert "forever" in frames


def traceback_of(error):
    names, trace = [], error.__traceback__
    while trace is not None:
        names.append(trace.tb_frame.f_code.co_name)
        trace = trace.tb_next
    return names


def test_code_that_swallows_the_exception_is_told_again(monkeypatch):
    global began
    monkeypatch.setattr(watch, "GRACE", 0.3)
    began = time.monotonic()
    with watch.watching() as watched:
        watched.allow(math.inf)
        with pytest.raises(Raised, match="Overdue"), user_code("forward"):
            stubborn()
    assert 1 < time.monotonic() - began < 4


def test_a_check_ends_when_its_time_is_over_and_no_exception_arrives_later():
    with watch.watching() as watched:
        watched.allow(time.monotonic() + 0.2)
        with pytest.raises(watch.Spent, match="budget spent: the forward has not returned"), user_code("forward"):
            forever()
        with pytest.raises(watch.Spent, match="budget spent"), user_code("forward"):
            pass
        time.sleep(0.3)


def test_calls_in_time_are_left_alone():
    with watch.watching() as watched:
        watched.allow(math.inf)
        for _ in range(20):
            with user_code("forward"):
                time.sleep(0.05)


def test_a_slow_function_is_given_the_time_that_its_first_call_shows_it_needs():
    with watch.watching() as watched:
        watched.settle(0.1)
        watched.allow(math.inf)
        with user_code("forward"):
            time.sleep(1.2)


def test_a_watch_ends_with_what_it_watches():
    def watchers():
        return [thread for thread in threading.enumerate() if thread.name == "gradsmith watch"]

    check(Twice, x(3), only="crash")
    time.sleep(0.2)
    assert not watchers()
    assert watch.active() is None


def test_a_backward_that_hangs_is_a_crash_and_a_forward_too():
    class Backward(Twice):
        @staticmethod
        def backward(ctx, grad):
            forever()

    class Forward(Twice):
        @staticmethod
        def forward(ctx, x):
            forever()

    for function, stage in ((Backward, "backward"), (Forward, "forward")):
        (found,) = check(function, x(3)).findings
        assert (found.code, found.severity) == ("crash", "error")
        assert found.message.startswith(f"{stage} hangs on the inputs given: ")


def test_a_forward_that_does_not_return_at_other_values_refuses_them():
    class Iterated(Twice):
        @staticmethod
        def forward(ctx, x):
            while float(x.detach().abs().max()) > 2:
                pass
            return 2 * x

    report = check(Iterated, x(3))
    assert report.ok
    assert not report.of("warning")


def test_a_backward_that_hangs_at_another_size_is_named_with_it():
    class Empty(Twice):
        @staticmethod
        def backward(ctx, grad):
            while not grad.numel():
                pass
            return 2 * grad

    (found,) = check(Empty, x(3)).of("error")
    assert found.code == "edge-shape"
    assert "backward raises Overdue" in found.message


def test_a_second_forward_that_raises_is_no_end_of_the_report():
    class Once(Twice):
        calls = 0

        @staticmethod
        def forward(ctx, x):
            Once.calls += 1
            if Once.calls > 3:
                raise RuntimeError("no more")
            return 2 * x

    report = check(Once, x(3))
    assert any("no more" in skip.reason for skip in report.skipped)


PROFILED = """
import sys, torch
from gradsmith.check import check
watch = sys.modules["gradsmith.check.watch"]
watch.FIRST = watch.CHECK = 0.5

class Hangs(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        while True:
            pass

print(check(Hangs, (torch.ones(2),)).codes)
seen = []
sys.setprofile(lambda frame, event, value: seen.append(event))
(lambda: None)()
sys.setprofile(None)
print("call" in seen)
"""


def test_a_profiler_still_works_after_a_call_was_stopped():
    done = subprocess.run([sys.executable, "-c", PROFILED], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.split("\n")[:2] == ["('crash',)", "True"], done.stderr
