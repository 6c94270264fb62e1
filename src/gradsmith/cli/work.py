"""Check cases, a Function at a time or as many as `-j` allows, each behind a wall.

The wall is a forked child for each case. One that dies or hangs costs the check that it was at; the next child goes on
with the checks that are left. Where a process cannot fork, Functions are checked in it, and a call that does
not return is stopped as far as Python can stop it.
"""

from __future__ import annotations

import multiprocessing.connection
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from gradsmith.check.battery import BACKWARD, FORWARD, Question, chosen_checks, examine
from gradsmith.check.case import Case
from gradsmith.check.finding import Skipped
from gradsmith.check.report import Outcome
from gradsmith.check.report_data import Report, merge
from gradsmith.cli.child import Child, can_fork
from gradsmith.cli.killed import report_of
from gradsmith.cli.options import Options
from gradsmith.cli.problem import Problem

DEATHS = 3  # so many checks of one case may take their child with them


@dataclass(frozen=True)
class Job:
    """One Function with every input it was seen with."""

    cases: tuple[Case, ...]

    @property
    def name(self) -> str:
        return self.cases[0].name


def jobs_of(cases: Iterable[Case]) -> list[Job]:
    """The cases by the Function that they call, in the order of its first call."""
    groups: dict[Any, list[Case]] = {}
    for case in cases:
        groups.setdefault(case.function_class or case.function, []).append(case)
    return [Job(tuple(group)) for group in groups.values()]


@dataclass(frozen=True)
class Progress:
    """Where the job at `position` stands; an unfinished outcome says itself that it is."""

    position: int
    outcome: Outcome
    finished: bool


def check_all(jobs: Sequence[Job], options: Options) -> Iterator[Progress]:
    """Check every Function; tells after each check how its Function stands, so that an interruption loses nothing.

    Raises:
        Problem: several are to be checked at a time, and this process cannot fork.
    """
    walled = can_fork()
    if options.jobs > 1 and not walled:
        raise Problem(
            "-j needs a process that can fork, which macOS, Windows and the use of CUDA prevent; leave it out"
        )
    waiting = [_Running(position, job, options, walled) for position, job in reversed(list(enumerate(jobs)))]
    running: list[_Running] = []
    try:
        while waiting or running:
            while waiting and len(running) < (options.jobs if walled else 1):
                running.append(waiting.pop())
            for one in _ready(running):
                yield one.advance()
            running = [one for one in running if not one.finished]
    finally:
        for one in running:
            one.steps.close()


def _ready(running: Sequence[_Running]) -> list[_Running]:
    """Those that can go on: with something to hear, or nothing to wait for any longer."""
    awaited = {one.child.channel: one for one in running if one.child is not None}
    if len(awaited) < len(running):
        return [one for one in running if one.child is None]
    left = min(one.child.ends for one in awaited.values() if one.child is not None) - time.monotonic()
    heard = multiprocessing.connection.wait(list(awaited), max(0.0, left))
    now = time.monotonic()
    return [one for channel, one in awaited.items() if channel in heard or (one.child and one.child.ends <= now)]


class _Running:
    """A job that is being checked, and what is known of it so far."""

    def __init__(self, position: int, job: Job, options: Options, walled: bool) -> None:
        self.position, self.job, self.options = position, job, options
        self.reports = [Report()]
        self.child: Child | None = None  # what it waits for
        self.finished = False
        self.start = time.perf_counter()
        self.steps = self._steps(self._walled if walled else self._here)

    def advance(self) -> Progress:
        """Go on until there is something to wait for."""
        self.finished = next(self.steps, True)
        seconds, cases = time.perf_counter() - self.start, self.job.cases
        left = [] if self.finished else [Report(skipped=(Skipped(self.job.name, "what was left", "interrupted"),))]
        location = cases[0].location("forward")
        outcome = Outcome(self.job.name, merge([*self.reports, *left]), seconds, len(cases), location)
        return Progress(self.position, outcome, self.finished)

    def _steps(self, check: Callable[[Case], Iterator[bool]]) -> Generator[bool, None, None]:
        for case in self.job.cases:
            yield from check(case)

    def _here(self, case: Case) -> Iterator[bool]:
        options = self.options
        for said in examine(case, only=options.only or None, skip=options.skip or None, budget=options.budget):
            self._take(said)
            yield False

    def _walled(self, case: Case) -> Iterator[bool]:
        answered: set[str] = set()
        asked = FORWARD
        for _ in range(DEATHS):
            self.child = Child(case, self.options, answered)
            try:
                yield False
                while (said := self.child.hear()) is not None:
                    asked = said.check
                    self._take(said)
                    answered |= {asked} if said.answer is not None else set()
                    yield False
                return
            except EOFError:
                self.reports.append(report_of(case, asked, self.child.death()))
                answered.add(asked)
            finally:
                self.child.kill()
                self.child = None
            if asked in (FORWARD, BACKWARD):
                break
        why = "not asked: the checks before took their process with them"
        left = chosen_checks(self.options.only or None, self.options.skip or None).keys() - answered
        self.reports.append(Report(skipped=tuple(Skipped(case.name, check, why) for check in sorted(left))))

    def _take(self, said: Question) -> None:
        self.reports += [said.answer] if said.answer is not None else []
