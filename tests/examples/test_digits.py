"""examples/digits.py: our layers, loss and sign learn what torch's do from the same seed."""

import json

import pytest

pytest.importorskip("sklearn")


@pytest.mark.slow
def test_our_layers_reach_the_accuracy_of_torch_with_and_without_sign(run):
    result = run("digits")
    assert result.returncode == 0, result.stderr
    lines = [line.split("accuracy") for line in result.stdout.splitlines()]
    accuracy = {name.strip(): float(value) for name, value in lines}
    relu, sign = ([v for k, v in accuracy.items() if kind in k] for kind in ("ReLU", "sign"))
    assert min(relu) > 0.95
    assert relu[1] == pytest.approx(relu[0], abs=0.01)
    assert min(sign) > 0.93
    assert sign[1] == pytest.approx(sign[0], abs=0.02)


@pytest.mark.slow
def test_the_check_of_the_training_run_finds_nothing(run):
    result = run("digits", check=True)
    assert result.returncode == 0, result.stdout
    report = json.loads(result.stdout)
    assert report["counts"]["error"] == report["counts"]["warning"] == 0
    assert {function["function"] for function in report["functions"]} == {"linear", "cross_entropy", "sign_ste"}
