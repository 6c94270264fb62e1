"""Counts, exit status and status of a run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gradsmith.check.finding import Skipped
from gradsmith.check.report.results import count_of, of_report, short_path, worst_first
from gradsmith.check.report_data import Report


def test_the_status_counts_errors_and_warnings_but_no_notes(results):
    assert [outcome.status for outcome in results.outcomes] == ["1 error", "1 warning", "ok"]


def test_one_that_no_check_was_asked_of_is_not_checked_and_not_counted(results):
    unasked = replace(results.outcomes[2], report=Report(skipped=(Skipped("Exp", "every check", "no device"),)))
    assert unasked.status == "not checked"
    assert replace(results, outcomes=(unasked,)).counts == "0 functions: 0 errors, 0 warnings, 0 notes"


def test_counts_are_of_the_whole_run(results):
    assert results.counts == "3 functions: 1 error, 1 warning, 1 note"


def test_errors_fail_a_run_and_warnings_do_only_if_strict(results):
    warned = replace(results, outcomes=results.outcomes[1:])
    assert (results.exit_code, warned.exit_code, replace(warned, strict=True).exit_code) == (1, 0, 1)


def test_what_could_not_be_run_decides_the_exit_status(results):
    assert replace(results, problems=("a.py raised ValueError",)).exit_code == 2


def test_findings_are_ordered_by_severity(results):
    assert [f.severity for f in worst_first(results.report.findings)] == ["error", "warning", "note"]


def test_a_single_report_is_split_by_function(results):
    split = of_report(results.report)
    assert [(o.function, o.status) for o in split.outcomes] == [(o.function, o.status) for o in results.outcomes]


@pytest.mark.parametrize(("number", "text"), [(0, "0 errors"), (1, "1 error"), (2, "2 errors")])
def test_counting(number, text):
    assert count_of(number, "error") == text


def test_a_path_is_short_where_it_lies_below(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert short_path(str(tmp_path / "a" / "b.py")) == "a/b.py"
    assert short_path("/elsewhere/b.py") == "/elsewhere/b.py"
