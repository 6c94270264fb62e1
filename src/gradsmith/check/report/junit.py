"""JUnit XML, which every continuous-integration server reads: a suite a Function, a test case a question."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from gradsmith.check.finding import Finding
from gradsmith.check.report.evidence import pairs, worst_element
from gradsmith.check.report.results import Outcome, Results

_FORBIDDEN = re.compile(r"[^\t\n\r\x20-\uD7FF\uE000-\uFFFD\U00010000-\U0010FFFF]")  # what XML 1.0 cannot hold


def render(results: Results) -> str:
    """The results as a JUnit document. Warnings are failures where the run is strict, output otherwise."""
    root = ElementTree.Element("testsuites", name="gradsmith")
    for outcome in results.outcomes:
        root.append(_suite(outcome, ("error", "warning") if results.strict else ("error",)))
    if results.problems:
        root.append(_problems(results.problems))
    for total in ("tests", "failures", "errors", "skipped"):
        root.set(total, str(sum(int(suite.get(total, "0")) for suite in root)))
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _suite(outcome: Outcome, failing: tuple[str, ...]) -> ElementTree.Element:
    """A passing case for each check that was asked, a failing one for each finding that fails the run."""
    suite = ElementTree.Element("testsuite", name=_clean(outcome.function), time=f"{outcome.seconds:.3f}")
    for check in dict.fromkeys(entry.check for entry in outcome.report.checked):
        _case(suite, f"check {check}")
    remarks = []
    for finding in outcome.report.findings:
        if finding.severity in failing:
            case = _case(suite, _name(finding))
            failure = ElementTree.SubElement(case, "failure", type=finding.code, message=_clean(finding.message))
            failure.text = _clean(_details(finding))
        else:
            remarks.append(f"{finding.severity}: {_name(finding)}: {finding.message}")
    for skip in outcome.report.skipped:
        ElementTree.SubElement(_case(suite, f"check {skip.check}"), "skipped", message=_clean(skip.reason))
    if remarks:
        ElementTree.SubElement(suite, "system-out").text = _clean("\n".join(remarks))
    return _counted(suite)


def _problems(problems: tuple[str, ...]) -> ElementTree.Element:
    suite = ElementTree.Element("testsuite", name="gradsmith", time="0.000")
    for problem in problems:
        ElementTree.SubElement(_case(suite, "run"), "error", type="problem", message=_clean(problem))
    return _counted(suite)


def _case(suite: ElementTree.Element, name: str) -> ElementTree.Element:
    classname = f"gradsmith.{suite.get('name')}"
    return ElementTree.SubElement(suite, "testcase", classname=classname, name=_clean(name))


def _counted(suite: ElementTree.Element) -> ElementTree.Element:
    suite.set("tests", str(len(suite.findall("testcase"))))
    for total, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(total, str(len(suite.findall(f"testcase/{tag}"))))
    return suite


def _name(finding: Finding) -> str:
    return finding.code if finding.argument is None else f"{finding.code}[{finding.argument}]"


def _details(finding: Finding) -> str:
    lines = [finding.message]
    if finding.location is not None:
        lines.append(f"{finding.location}: {finding.location.text}")
    lines += [f"{name}: {value}" for name, value in (*worst_element(finding), *pairs(finding))]
    lines += [text for text in (finding.advice, finding.reproduce) if text]
    return "\n".join(lines)


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("\ufffd", text)
