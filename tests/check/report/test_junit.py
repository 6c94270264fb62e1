"""JUnit XML, as continuous-integration servers read it."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

from gradsmith.check.report import junit


def read(results):
    return ElementTree.fromstring(junit.render(results).encode())


def test_a_suite_a_function_and_a_case_a_question(results):
    root = read(results)
    assert [suite.get("name") for suite in root] == ["Linear", "Exp", "Right"]
    names = [case.get("name") for case in root.findall("testsuite[@name='Linear']/testcase")]
    assert names == ["check gradient", "check layout", "gradient-scale[weight]", "check compile"]


def test_totals_count_what_is_there(results):
    root = read(results)
    assert {name: root.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "8",
        "failures": "1",
        "errors": "0",
        "skipped": "1",
    }


def test_a_failure_carries_the_evidence(results):
    failure = read(results).find(".//failure")
    assert failure.get("type") == "gradient-scale"
    assert "ratio: 2" in failure.text
    assert "print('wrong')" in failure.text


def test_warnings_fail_only_where_the_run_is_strict(results):
    warned = replace(results, outcomes=results.outcomes[1:2])
    assert read(warned).get("failures") == "0"
    assert "needless-save" in read(warned).find(".//system-out").text
    assert read(replace(warned, strict=True)).get("failures") == "1"


def test_what_could_not_be_run_is_an_error(results):
    assert read(replace(results, problems=("a.py raised",))).get("errors") == "1"


def test_characters_that_xml_cannot_hold_are_replaced(results, error):
    odd = replace(error, message="a\x00b\x1b[0m & <c>")
    outcome = replace(results.outcomes[0], report=replace(results.outcomes[0].report, findings=(odd,)))
    assert read(replace(results, outcomes=(outcome,))).find(".//failure").get("message") == "a\ufffdb\ufffd[0m & <c>"
