"""Checking several Functions at a time, each in a process of its own."""

from __future__ import annotations

import json

CALL = "{}.apply(torch.full((3,), 0.7, requires_grad=True))"


def test_with_one_job_and_with_two_the_findings_are_the_same(gradsmith, write):
    write("a.py", "right", "wrong", CALL.format("Right"), CALL.format("Wrong"))

    def findings(*jobs):
        return json.loads(gradsmith("check", "a.py", "--format", "json", *jobs).stdout)["findings"]

    assert findings("-j", "2") == findings()
