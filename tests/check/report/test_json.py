"""The JSON document, whose layout others build on."""

from __future__ import annotations

import json as stdlib_json
from dataclasses import replace

import torch

from gradsmith.check.report import json


def document(results):
    return stdlib_json.loads(json.render(results), parse_constant=lambda name: (_ for _ in ()).throw(ValueError(name)))


def test_the_layout_is_that_of_schema_2(results):
    found = document(results)
    assert list(found) == [
        "schema", "ok", "counts", "findings", "skipped", "checked", "taylor", "saved",
        "title", "strict", "functions", "problems",
    ]  # fmt: skip
    assert found["schema"] == 2
    assert found["counts"] == {"error": 1, "warning": 1, "note": 1}
    assert list(found["findings"][0]) == [
        "code", "severity", "function", "argument", "message", "evidence", "advice", "reproduce", "location",
    ]  # fmt: skip
    assert list(found["functions"][0]) == ["function", "status", "seconds", "cases", "location"]


def test_nothing_of_a_finding_is_lost(results, error):
    assert document(results)["findings"][0] == {**error.to_dict(), "evidence": dict(error.evidence)}


def test_numbers_that_json_cannot_hold_become_strings(results, error):
    evidence = {"nan": float("nan"), "inf": [float("inf"), -float("inf")], "dtype": torch.float64, "c": 1 + 2j}
    outcome = replace(
        results.outcomes[0], report=replace(results.outcomes[0].report, findings=(replace(error, evidence=evidence),))
    )
    found = document(replace(results, outcomes=(outcome,)))["findings"][0]["evidence"]
    assert found == {"nan": "nan", "inf": ["inf", "-inf"], "dtype": "torch.float64", "c": "(1+2j)"}


def test_ok_follows_the_exit_status(results):
    warned = replace(results, outcomes=results.outcomes[1:])
    assert document(warned)["ok"]
    assert not document(replace(warned, strict=True))["ok"]
    assert not document(replace(warned, problems=("a.py raised",)))["ok"]
