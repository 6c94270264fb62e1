"""What is said of a Function that took its process with it."""

from __future__ import annotations

import linecache

from gradsmith.check.battery import FORWARD
from gradsmith.check.case import Case
from gradsmith.check.finding import Finding, Location, Skipped
from gradsmith.check.report_data import Report
from gradsmith.cli.child import Death


def report_of(case: Case, asked: str, death: Death) -> Report:
    """A `crash` by the check that was `asked`; a note where the process itself may be what the Function cannot bear.

    Its forward has run on these inputs before, in the program: a child that dies of that proves nothing.
    """
    if asked == FORWARD or death.by_fork:
        why = f"its forward ran in the program, but a forked process that checks it {death.how}"
        note = Finding(
            code="cannot-tell",
            severity="note",
            function=case.name,
            argument=None,
            message=why,
            evidence=_evidence(asked, death),
            advice="check it from Python, with gradsmith.check, in a process of its own",
            location=case.location("forward"),
        )
        return Report((note,), (Skipped(case.name, "every check", why),))
    where = "" if asked == "backward" else f" during the check {asked}"
    crash = Finding(
        code="crash",
        severity="error",
        function=case.name,
        argument=None,
        message=f"the process that called it {death.how}{where}",
        evidence=_evidence(asked, death),
        advice="see the line it was at; run it there under a debugger, in a process of its own",
        location=_location(case, death),
    )
    return Report((crash,), (Skipped(case.name, asked, f"the process {death.how}"),))


def _evidence(asked: str, death: Death) -> dict[str, str]:
    evidence = {"check": asked, "process": death.how}
    if death.last:
        evidence["last words"] = death.last
    return evidence


def _location(case: Case, death: Death) -> Location | None:
    """The line of the author's file that ran last."""
    home = case.location("backward") or case.location("forward")
    if home is None:
        return None
    line = next((line for file, line, _ in death.frames if file == home.file), None)
    if line is None:
        return home
    return Location(home.file, line, linecache.getline(home.file, line).strip())
