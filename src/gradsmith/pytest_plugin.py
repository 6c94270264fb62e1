"""`pytest --gradsmith`: check every custom Function that a project's existing tests call.

The tests run as they always do, while the Functions that they apply are recorded with real arguments. At the
end each Function becomes one more test item, `gradsmith::Name`, which passes or fails with its report. The
settings of `[tool.gradsmith]` in pyproject.toml hold here, too. Under pytest-xdist every worker checks what its
own tests called.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

FLAG = "--gradsmith"
Phase = Literal["setup", "call", "teardown"]
Verdict = Literal["passed", "failed", "skipped"]
PHASES: tuple[Phase, ...] = ("setup", "call", "teardown")
_SENT = "gradsmith"  # what an xdist worker hands to the controller


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("gradsmith")
    group.addoption(FLAG, action="store_true", help="check the custom gradients that the tests call")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption(FLAG):
        config.pluginmanager.register(_Plugin(config), "gradsmith-run")


@dataclass(frozen=True)
class Item:
    """What is reported of one Function."""

    function: str
    file: str
    line: int
    verdict: Verdict
    seconds: float
    text: str


class _Plugin:
    """Records from the start of the session, reports after its last test."""

    def __init__(self, config: pytest.Config) -> None:
        # Here and not at the top: a pytest that was not asked must not import torch.
        from gradsmith.check.record import record
        from gradsmith.cli import settings
        from gradsmith.cli.accept import Accepted
        from gradsmith.cli.problem import Problem

        try:
            self.settings = settings.read(Path(config.rootpath))
            file = self.settings.get("baseline")
            self.accepted = Accepted.of(self.settings.get("allow", []), None if file is None else Path(file))
        except Problem as problem:
            raise pytest.UsageError(str(problem)) from problem
        self.config = config
        self.items: list[Item] = []
        self.problems: dict[str, None] = {}  # what the workers could not record
        self.finished = False
        self._recording = ExitStack()
        self.recording = self._recording.enter_context(record(self.settings.get("limit", 3)))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Iterator[None]:
        try:
            result = yield
        finally:
            self._recording.close()
        if session.config.option.collectonly:
            return result
        self.items += self._check()
        self.finished = True
        sent: dict[str, Any] | None = getattr(self.config, "workeroutput", None)
        if sent is not None:
            sent[_SENT] = json.dumps([[asdict(item) for item in self.items], self.recording.problems])
            return result
        items = _merged(self.items)
        session.testscollected += len(items)
        for item in items:
            self._report(item)
        return result

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        output = getattr(node, "workeroutput", None) or {}
        items, problems = json.loads(output.get(_SENT, "[[], []]"))
        self.items += [Item(**item) for item in items]
        self.problems |= dict.fromkeys(problems)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if not self.finished:
            terminalreporter.write_line("gradsmith: the run was stopped, and nothing was checked", yellow=True)
        elif not self.items:
            terminalreporter.write_line("gradsmith: the tests called no custom Function", yellow=True)
        for problem in self.problems | dict.fromkeys(self.recording.problems):
            terminalreporter.write_line(f"gradsmith: {problem}", yellow=True)

    def _check(self) -> list[Item]:
        from gradsmith.cli.options import Options
        from gradsmith.cli.problem import Problem
        from gradsmith.cli.work import check_all, jobs_of

        given = self.settings
        options = Options(tuple(given.get("only", ())), tuple(given.get("skip", ())), given.get("budget"))
        jobs = jobs_of(self.recording.cases)
        try:
            self.accepted.see(jobs)
        except Problem as problem:
            raise pytest.UsageError(str(problem)) from problem
        strict = given.get("strict", False)
        outcomes = [step.outcome for step in check_all(jobs, options) if step.finished]
        return [_item(self.accepted.apply(outcome), strict=strict) for outcome in outcomes]

    def _report(self, item: Item) -> None:
        """Show `item` as pytest shows a test; counts, summary, exit status and junitxml follow from that."""
        hook = self.config.hook
        nodeid, location = f"gradsmith::{item.function}", (item.file, item.line, item.function)
        hook.pytest_runtest_logstart(nodeid=nodeid, location=location)
        for phase in PHASES:
            hook.pytest_runtest_logreport(report=_test_report(item, phase, nodeid, location))
        hook.pytest_runtest_logfinish(nodeid=nodeid, location=location)


def _test_report(item: Item, phase: Phase, nodeid: str, location: tuple[str, int, str]) -> pytest.TestReport:
    called = phase == "call"
    verdict: Verdict = item.verdict if called else "passed"
    shown: dict[Verdict, Any] = {"failed": item.text, "skipped": (item.file, item.line, item.text)}
    return pytest.TestReport(
        nodeid=nodeid,
        location=location,
        keywords={"gradsmith": 1},
        outcome=verdict,
        longrepr=shown.get(verdict),
        when=phase,
        sections=[("gradsmith", item.text)] if called and verdict == "passed" else [],
        duration=item.seconds if called else 0.0,
    )


def _item(outcome: Any, *, strict: bool) -> Item:
    from gradsmith.check.report import Results
    from gradsmith.check.report.text import render

    results = Results((outcome,), strict=strict)
    place = outcome.location
    file, line = (place.file, place.line) if place is not None else ("", 0)
    if outcome.checked:
        verdict: Verdict = "failed" if results.failed else "passed"
        text = f"{_headline(outcome)}\n\n{render(results)}"
    else:
        verdict, text = "skipped", "; ".join(skipped.reason for skipped in outcome.report.skipped)
    return Item(outcome.function, file, line, verdict, outcome.seconds, text)


def _headline(outcome: Any) -> str:
    """What pytest's short summary shows: "2 errors: gradient-scale, gradient-sign"."""
    codes = dict.fromkeys(f.code for f in outcome.report.findings if f.severity != "note")
    return ": ".join(filter(None, [outcome.status, ", ".join(codes)]))


def _merged(items: list[Item]) -> list[Item]:
    """One item a Function: several xdist workers may have met the same, and the one that tells most counts."""
    tells = ("skipped", "passed", "failed").index
    found: dict[tuple[str, str, int], Item] = {}
    for item in items:
        key = item.function, item.file, item.line
        if key not in found or tells(item.verdict) > tells(found[key].verdict):
            found[key] = item
    return list(found.values())
