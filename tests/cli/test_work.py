"""Checking several Functions at a time, each in a process of its own."""

from __future__ import annotations

import json

CALL = "{}.apply(torch.full((3,), 0.7, requires_grad=True))"
KILLER = """
    import os, signal
    class Killer(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return 2 * x
        @staticmethod
        def backward(ctx, grad):
            os.kill(os.getpid(), signal.SIGKILL)
    Killer.apply(torch.full((3,), 0.7, requires_grad=True))
    """


def test_a_function_that_kills_its_process_costs_its_own_result_alone(gradsmith, write):
    write("a.py", "right", "wrong", CALL.format("Right"), KILLER, CALL.format("Wrong"))
    result = gradsmith("check", "a.py", "-j", "2", "--format", "json")
    found = json.loads(result.stdout)
    assert result.exit_code == 1
    assert {f["function"]: f["status"] for f in found["functions"]} == {
        "Right": "ok",
        "Wrong": "1 error",
        "Killer": "1 error",
    }
    killed = next(f for f in found["findings"] if f["function"] == "Killer")
    assert killed["code"] == "crash"
    assert "killed by signal 9" in killed["message"]


def test_with_one_job_and_with_two_the_findings_are_the_same(gradsmith, write):
    write("a.py", "right", "wrong", CALL.format("Right"), CALL.format("Wrong"))

    def findings(*jobs):
        return json.loads(gradsmith("check", "a.py", "--format", "json", *jobs).stdout)["findings"]

    assert findings("-j", "2") == findings()
