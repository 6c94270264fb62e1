"""Results to write reports of: a wrong Function, one with a warning, and a right one."""

from __future__ import annotations

import pytest

from gradsmith.check.finding import Finding, Location, Skipped
from gradsmith.check.report import Outcome, Results
from gradsmith.check.report_data import Checked, Report


@pytest.fixture
def source(tmp_path):
    file = tmp_path / "layers.py"
    file.write_text("import torch\n\nclass Linear:\n    def backward(ctx, grad):\n        return 2 * grad  # <wrong>\n")
    return file


@pytest.fixture
def error(source):
    return Finding(
        code="gradient-scale",
        severity="error",
        function="Linear",
        argument="weight",
        message="backward returns 2x the derivative for `weight` in all 12 elements",
        evidence={
            "element": [0, 2],
            "got": 1.23456789,
            "expected": 0.617283945,
            "ratio": 2.0,
            "wrong_elements": 12,
            "elements_looked_at": 12,
            "elements": 12,
            "oracle": "replay",
            "oracle_error": 1.2e-12,
        },
        advice="divide the gradient for `weight` by 2",
        reproduce="import torch\nprint('wrong')\n",
        location=Location(str(source), 4, "def backward(ctx, grad):"),
    )


@pytest.fixture
def warning():
    return Finding("needless-save", "warning", "Exp", "x", "`x` is saved and never read: 50% of it, at 2:1")


@pytest.fixture
def note():
    return Finding("no-jvp", "note", "Exp", None, "forward mode is refused: no `jvp`")


@pytest.fixture
def results(error, warning, note):
    def outcome(name, findings, skipped=()):
        checked = (Checked(name, "gradient", ("as given", "close by")), Checked(name, "layout", ("transposed",)))
        return Outcome(name, Report(tuple(findings), tuple(skipped), checked), 1.25, 2)

    return Results(
        (
            outcome("Linear", [error], [Skipped("Linear", "compile", "no compiler was found")]),
            outcome("Exp", [note, warning]),
            outcome("Right", []),
        ),
        title="train.py",
    )
