"""examples/first_draft.py: it runs without complaint, and the check names each of its faults."""

import json

import pytest


def test_the_script_runs_without_complaint(run):
    result = run("first_draft")
    assert result.returncode == 0
    assert result.stderr == ""


@pytest.mark.slow
def test_the_check_names_every_fault_and_the_argument_at_fault(run):
    result = run("first_draft", check=True)
    assert result.returncode == 1
    errors = {
        (finding["function"], finding["code"], finding["argument"])
        for finding in json.loads(result.stdout)["findings"]
        if finding["severity"] == "error"
    }
    assert errors == {
        ("LinearFunction", "edge-shape", "bias"),
        ("AffineFunction", "crash", "bias"),
        ("CrossEntropyLoss", "double-backward-wrong", "logits"),
        ("MeanSquare", "gradient-ignores-upstream", "prediction"),
    }
