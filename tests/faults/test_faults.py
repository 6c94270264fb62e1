"""Every planted fault is found and named, and every clean twin is left alone."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from registry import CLEAN, FAULTS, Planted, load

from gradsmith.check import Report, check

load()
torch.set_num_threads(1)


@cache
def report_on(planted: Planted) -> Report:
    return check(planted.function, planted.inputs())


@pytest.mark.parametrize("planted", FAULTS, ids=lambda planted: f"{planted.codes[0]}-{planted.name}")
def test_fault_is_found_and_named(planted: Planted) -> None:
    report = report_on(planted)
    found = [finding for finding in report.findings if finding.code in planted.codes]
    assert found, str(report)
    if planted.argument is not None:
        assert planted.argument in [finding.argument for finding in found], str(report)
    if planted.says:
        assert any(planted.says in finding.message for finding in found), str(report)


@pytest.mark.parametrize("planted", FAULTS, ids=lambda planted: f"{planted.codes[0]}-{planted.name}")
def test_fault_is_named_once(planted: Planted) -> None:
    report = report_on(planted)
    other = [f.code for f in report.findings if f.severity == "error" and f.code not in planted.codes + planted.also]
    assert not other, str(report)


@pytest.mark.parametrize("planted", CLEAN, ids=lambda planted: planted.name)
def test_clean_twin_is_left_alone(planted: Planted) -> None:
    report = report_on(planted)
    loud = [f for f in report.findings if f.severity != "note" and f.code not in planted.also]
    assert not loud, str(report)
    assert set(planted.codes) <= set(report.codes), str(report)
