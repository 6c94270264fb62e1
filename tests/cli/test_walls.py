"""A Function that hangs, exits, fills memory or kills its process costs its own result alone."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import time

import pytest
import torch

from gradsmith.check import Case
from gradsmith.cli.options import Options
from gradsmith.cli.work import Job, check_all

watch = importlib.import_module("gradsmith.check.watch")
child = importlib.import_module("gradsmith.cli.child")
DOUBLE = """
import ctypes, os, sys, threading, time, torch
class {name}(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x
    @staticmethod
    def backward(ctx, grad):
        {body}
        return 2 * grad
{name}.apply(torch.full((3,), 0.7, requires_grad=True))
"""
CALL_WRONG = "Wrong.apply(torch.full((3,), 0.7, requires_grad=True))"
CALL_RIGHT = "Right.apply(torch.full((3,), 0.7, requires_grad=True))"


@pytest.fixture
def impatient(monkeypatch):
    """Seconds become tenths."""
    for name, seconds in {"FIRST": 1.0, "CHECK": 1.0, "GRACE": 0.3}.items():
        monkeypatch.setattr(watch, name, seconds)
    monkeypatch.setattr(child, "SILENCE", 3.0)


@pytest.fixture
def found(gradsmith, write):
    """What is found of a Function whose backward does `body`, between one that is right and one that is wrong."""
    few = [option for code in ("crash", "gradient-sign", "edge-shape") for option in ("--only", code)]

    def found(body, *options):
        write("a.py", "right", "wrong", CALL_RIGHT, DOUBLE.format(name="Odd", body=body), CALL_WRONG)
        result = gradsmith("check", "a.py", "--format", "json", *few, *options)
        assert result.exit_code == 1, result.output
        document = json.loads(result.stdout)
        status = {f["function"]: f["status"] for f in document["functions"]}
        assert (status["Right"], status["Wrong"]) == ("ok", "1 error")
        return [f for f in document["findings"] if f["function"] == "Odd"], document

    return found


@pytest.mark.parametrize(
    ("body", "how"),
    [
        ("os._exit(3)", "ended with status 3"),
        ("os.kill(os.getpid(), 9)", "was killed by signal 9 (Killed)"),
        ("ctypes.string_at(0)", "was killed by signal 11 (Segmentation fault)"),
        ("os.abort()", "was killed by signal 6 (Aborted)"),
    ],
)
def test_a_backward_that_ends_the_process_is_a_crash(found, body, how):
    (crash,), _ = found(body)
    assert (crash["code"], crash["severity"]) == ("crash", "error")
    assert crash["message"] == f"the process that called it {how}"


def test_a_segmentation_fault_is_reported_at_its_line(found):
    (crash,), _ = found("ctypes.string_at(0)")
    assert crash["location"]["text"] == "ctypes.string_at(0)"


@pytest.mark.parametrize(
    "body", ["raise KeyboardInterrupt", "sys.exit(0)", "raise GeneratorExit", "input()", "assert 0"]
)
def test_a_backward_that_raises_anything_is_a_crash(found, body):
    (crash,), _ = found(body)
    assert (crash["code"], crash["severity"]) == ("crash", "error")
    assert crash["message"].startswith("backward raises on the inputs given: ")
    assert crash["location"]["text"] == body


def test_a_backward_that_never_returns_is_stopped_where_it_is(found, impatient):
    (crash,), _ = found("while True: pass")
    assert crash["message"] == "backward hangs on the inputs given: it has not returned after 1 s"
    assert crash["location"]["text"] == "while True: pass"


@pytest.mark.parametrize("sleep", ["time.sleep(1000)", "threading.Event().wait()", "ctypes.PyDLL(None).sleep(1000)"])
def test_a_backward_that_waits_forever_outside_of_python_is_killed(found, impatient, sleep):
    (crash,), _ = found(sleep)
    assert crash["code"] == "crash"
    assert crash["message"] == "the process that called it hung and could not be stopped"
    assert crash["location"]["text"] == sleep


def test_a_backward_that_dies_in_one_check_alone_is_asked_all_others(found):
    (crash, *_), document = found("os.kill(os.getpid(), 9) if not grad.numel() else None")
    assert crash["code"] == "crash"
    assert crash["message"].endswith("was killed by signal 9 (Killed) during the check edge-shape")
    asked = {entry["check"] for entry in document["checked"] if entry["function"] == "Odd"}
    assert asked == {"crash", "gradient", "optional", "values"}


def test_a_backward_that_dies_in_every_check_is_given_up(found):
    body = "Odd.calls = getattr(Odd, 'calls', 0) + 1; Odd.calls > 1 and os._exit(5)"
    crashes, document = found(
        body, "--only", "layout-dependent", "--only", "not-repeatable", "--only", "undefined-upstream"
    )
    assert {crash["code"] for crash in crashes} == {"crash"}
    reasons = {skip["reason"] for skip in document["skipped"] if skip["function"] == "Odd"}
    assert "not asked: the checks before took their process with them" in reasons


def test_a_backward_that_fills_memory_is_refused_it(found):
    (crash,), _ = found("kept = [torch.empty(2**24) for _ in range(10**6)]", "--memory", "1")
    assert crash["code"] == "crash"
    assert "can't allocate memory" in crash["message"]


def test_a_variation_that_needs_too_much_memory_is_left_out(found):
    notes, document = found("torch.empty(2**31 if grad.dim() > 1 else 1)", "--memory", "1")
    assert not [finding for finding in notes if finding["severity"] == "error"]
    (reason,) = [s["reason"] for s in document["skipped"] if (s["function"], s["check"]) == ("Odd", "edge-shape")]
    assert reason.startswith("the backward needs more memory than there is")


def test_endless_recursion_is_a_crash(found):
    (crash,), _ = found("Odd.backward(ctx, grad)")
    assert "RecursionError" in crash["message"]


def test_threads_that_never_end_hold_nothing_up(found):
    start = time.monotonic()
    notes, _ = found("threading.Thread(target=time.sleep, args=(1000,)).start()")
    assert not [finding for finding in notes if finding["severity"] == "error"]
    assert time.monotonic() - start < 60


def test_processes_that_it_starts_end_with_it(found, directory):
    found("import subprocess; subprocess.Popen(['sleep', '31.4159'])")
    time.sleep(0.2)
    running = subprocess.run(["pgrep", "-f", "sleep 31.4159"], capture_output=True, text=True, check=False).stdout
    assert running == ""


def test_what_a_function_prints_while_it_is_checked_is_not_shown(gradsmith, write, capfd):
    write("a.py", DOUBLE.format(name="Odd", body="os.system('echo called'); print('called')"))
    result = gradsmith("check", "a.py", "--only", "crash")
    assert result.exit_code == 0
    assert "called" not in result.output + "".join(capfd.readouterr())


def test_a_fork_that_the_code_itself_refuses_is_no_error(found):
    refusal = "sys.stderr.write('fork() is unsafe here\\n'); os.abort()"
    (note,), _ = found(refusal)
    assert (note["code"], note["severity"]) == ("cannot-tell", "note")


def test_an_interruption_keeps_what_was_found_of_the_function_at_hand(gradsmith, write):
    body = "os.kill(os.getppid(), 2) if grad.dim() > 1 else None; grad = -grad"
    write("a.py", DOUBLE.format(name="Odd", body=body))
    result = gradsmith("check", "a.py")
    assert result.exit_code == 2
    assert result.stderr == "gradsmith: interrupted while checking a.py\n"
    assert "error[gradient-sign] in Odd" in result.stdout
    assert "what was left: interrupted" in result.stdout


def test_where_nothing_can_be_forked_functions_are_checked_in_this_process(gradsmith, write, monkeypatch):
    for module in ("gradsmith.cli.work", "gradsmith.cli.session"):
        monkeypatch.setattr(importlib.import_module(module), "can_fork", lambda: False)
    write("a.py", "wrong", CALL_WRONG)
    result = gradsmith("check", "a.py")
    assert "this process cannot fork" in result.stderr
    assert "error[gradient-sign] in Wrong" in result.stdout
    assert "-j needs a process that can fork" in gradsmith("check", "a.py", "-j", "2").stderr


def test_a_child_leaves_nothing_behind():
    class Right(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return 2 * x

        @staticmethod
        def backward(ctx, grad):
            return 2 * grad

    before = os.listdir("/proc/self/fd")
    job = Job((Case.of(Right, (torch.ones(3, requires_grad=True),)),))
    *_, last = check_all([job], Options())
    assert last.finished
    assert last.outcome.report.ok
    assert len(os.listdir("/proc/self/fd")) == len(before)
