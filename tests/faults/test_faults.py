"""Every planted fault is found and named, its script shows it, and every clean twin is left alone."""

from __future__ import annotations

import contextlib
import gc
import io
import math
import re
from functools import cache

import pytest
import torch
from registry import CLEAN, FAULTS, Planted, load

from gradsmith.check import Report, check

load()
torch.set_num_threads(1)

RAISES = {"crash", "gradient-count", "gradient-shape", "edge-shape", "undefined-upstream", "not-repeatable"}
SHOWS = re.compile(r"^\d+ (?:double )?backward: (\S+) difference[^:]*: (\S+)$", re.MULTILINE)

each_fault = pytest.mark.parametrize("planted", FAULTS, ids=lambda planted: f"{planted.codes[0]}-{planted.name}")


@cache
def report_on(planted: Planted) -> Report:
    return check(planted.function, planted.inputs(), only=planted.only)


@each_fault
def test_fault_is_found_and_named(planted: Planted) -> None:
    report = report_on(planted)
    found = [finding for finding in report.findings if finding.code in planted.codes]
    assert found, str(report)
    if planted.argument is not None:
        assert planted.argument in [finding.argument for finding in found], str(report)
    if planted.says:
        assert any(planted.says in finding.message for finding in found), str(report)


@each_fault
def test_fault_is_named_once(planted: Planted) -> None:
    report = report_on(planted)
    other = [f.code for f in report.findings if f.severity == "error" and f.code not in planted.codes + planted.also]
    assert not other, str(report)


@each_fault
def test_script_runs_on_plain_torch_and_shows_the_fault(planted: Planted) -> None:
    for found in report_on(planted).of("error"):
        output = io.StringIO()
        try:
            with contextlib.redirect_stdout(output):
                exec(compile(found.reproduce, "reproduce.py", "exec"), {})
        except (Exception, SystemExit):
            assert found.code in RAISES or "raises" in found.message, found.reproduce
            continue
        finally:
            gc.enable()  # a script that shows a leak switches the collector off, for good
        assert output.getvalue() or found.code in RAISES, found.reproduce
        pairs = [(float(a), float(b)) for a, b in SHOWS.findall(output.getvalue())]
        if pairs:
            assert any(not math.isclose(a, b, rel_tol=1e-4, abs_tol=1e-12) for a, b in pairs), output.getvalue()


@pytest.mark.parametrize("planted", CLEAN, ids=lambda planted: planted.name)
def test_clean_twin_is_left_alone(planted: Planted) -> None:
    report = report_on(planted)
    loud = [f for f in report.findings if f.severity != "note" and f.code not in planted.also]
    assert not loud, str(report)
    assert set(planted.codes) <= set(report.codes), str(report)
