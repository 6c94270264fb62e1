"""One run of `gradsmith check`: each target is run, its Functions are recorded, and then checked."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from gradsmith.check.case import Case, copy_arguments, declaration
from gradsmith.check.cases import cases_of
from gradsmith.check.finding import Skipped
from gradsmith.check.isolation import Raised
from gradsmith.check.record import record
from gradsmith.check.report import Outcome, Results
from gradsmith.check.report_data import Report
from gradsmith.check.tree import is_float, tensors
from gradsmith.cli import target
from gradsmith.cli.accept import Accepted
from gradsmith.cli.apart import Died, apart
from gradsmith.cli.child import can_fork
from gradsmith.cli.options import Options
from gradsmith.cli.output import program_output, progress_bar
from gradsmith.cli.problem import Interrupted, Problem, describe
from gradsmith.cli.program import Program, never_called, process_restored, run
from gradsmith.cli.work import check_all, jobs_of


@dataclass
class Session:
    """What was asked for, and what has been found so far; an interruption leaves the latter whole."""

    options: Options
    limit: int = 3  # different signatures a Function
    seed: int | None = None
    arguments: tuple[str, ...] = ()  # for the scripts
    inputs: str | None = None
    kwargs: str = ""
    accepted: Accepted = field(default_factory=Accepted)
    quiet: bool = False  # keep what scripts print off standard output
    outcomes: list[Outcome] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    stopped: bool = False  # by the user
    apart: bool = False  # run each program in a process of its own, where a process can be forked
    say: Callable[[str], None] = print  # where a problem is shown as soon as it is met

    def check(self, targets: Sequence[str]) -> None:
        """Run and check every target; whatever goes wrong becomes a problem, and the rest goes on."""
        for name in targets:
            if self.stopped:
                return
            if target.is_name(name):
                self._walled(name, lambda name=name: self._check_name(name))  # type: ignore[misc]
            else:
                self._heeded(name, lambda name=name: self._check_programs(name))  # type: ignore[misc]

    def _heeded(self, name: str, check: Callable[[], None]) -> None:
        try:
            check()
        except Problem as problem:
            self._problem(str(problem))
        except KeyboardInterrupt:
            self.stopped = True
            self._problem(f"interrupted while checking {name}")

    def _walled(self, name: str, check: Callable[[], None]) -> None:
        """The same in a process of its own: if that dies, everything else that was found is still there."""
        if not (self.apart and can_fork()):
            self._heeded(name, check)
            return
        outcomes, problems = len(self.outcomes), len(self.problems)

        def found() -> tuple[list[Outcome], list[str], bool]:
            self._heeded(name, check)
            return self.outcomes[outcomes:], self.problems[problems:], self.stopped

        try:
            more, met, self.stopped = apart(found)
        except Died as died:
            self._problem(f"{name} {died}: nothing that it called could be checked")
        else:
            self.outcomes += more
            self.problems += met

    def results(self, title: str, *, strict: bool) -> Results:
        return Results(tuple(self.outcomes), tuple(self.problems), strict, title)

    def _check_name(self, name: str) -> None:
        if self.inputs is None:
            raise Problem(f"{name} needs arguments to be called with: --inputs 'torch.randn(4, 3), ...'")
        with process_restored():
            function = target.load(name)
            _seed(0 if self.seed is None else self.seed)
            arguments = target.evaluate_inputs(self.inputs), target.evaluate_kwargs(self.kwargs)
            if not any(is_float(value) for value in tensors(arguments)):
                raise Problem(f"{name}: nothing in --inputs {self.inputs!r} can have a gradient; give a float tensor")
            self._check_cases(_called(name, function, *arguments, f"--inputs {self.inputs!r}"))

    def _check_programs(self, name: str) -> None:
        with process_restored():
            programs = target.programs(name)
        before = len(self.outcomes), len(self.problems)
        for program in programs:
            if not self.stopped:
                self._walled(program.name, lambda program=program: self._check_program(program))  # type: ignore[misc]
        met = self.outcomes[before[0] :]
        if len(self.problems) == before[1] and not any(outcome.cases for outcome in met):
            uncalled = f" (it defines {', '.join(outcome.function for outcome in met)})" if met else ""
            raise Problem(f"{name} called no custom Function{uncalled}, so there is nothing to check")

    def _check_program(self, program: Program) -> None:
        with process_restored():
            with record(self.limit) as recording, program_output(self.quiet):
                self._run(program)
            self._check_cases(recording.cases)
            for reason in recording.problems:
                function, _, cause = reason.partition(": ")
                self.outcomes.append(_unchecked(function.rpartition(".")[2], cause))
            called = {case.function_class for case in recording.cases} | {*recording.passed_by}
            called |= {getattr(declaration(function), "author_class", None) for function in called}
            why = "the program defines it and never calls it, or only in a transform or a compiled region"
            for function in never_called(vars(sys.modules["__main__"]), called):
                self.outcomes.append(_unchecked(function, why))

    def _run(self, program: Program) -> None:
        if self.seed is not None:
            _seed(self.seed)
        try:
            run(program, self.arguments)
        except Problem as problem:
            self.stopped = isinstance(problem, Interrupted)
            self._problem(str(problem))

    def _check_cases(self, cases: Sequence[Case]) -> None:
        jobs = jobs_of(cases)
        if jobs and not can_fork():
            self.say("this process cannot fork, so that a Function that kills it or hangs in C code ends the run")
        self.accepted.see(jobs)
        done: dict[int, Outcome] = {}
        try:
            with progress_bar() as progress:
                names = [*(job.name for job in jobs), ""]
                task = progress.add_task(names[0], total=len(jobs))
                finished = 0
                for step in check_all(jobs, self.options):
                    done[step.position] = self.accepted.apply(step.outcome)
                    finished += step.finished
                    progress.update(task, completed=finished, description=names[finished])
        finally:  # an interruption leaves what was found before it
            self.outcomes += [done[position] for position in sorted(done)]

    def _problem(self, sentence: str) -> None:
        self.problems.append(sentence)
        self.say(sentence)


def _called(name: str, function: Any, inputs: tuple[Any, ...], kwargs: dict[str, Any], given: str) -> list[Case]:
    """The cases in `function`, once it is known to take its arguments: those are the user's, not recorded ones."""
    try:
        cases = cases_of(function, inputs, kwargs)
        for case in cases:
            with torch.no_grad():
                case.function(*copy_arguments(case.inputs), **copy_arguments(dict(case.kwargs)))
    except Raised as raised:
        raise Problem(f"{name} raised {describe(raised.error)} on {given}") from raised
    except Exception as error:  # The isolation boundary: the function is anybody's and may raise anything.
        raise Problem(f"{name} raised {describe(error)} on {given}") from error
    return cases


def _seed(seed: int) -> None:
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def _unchecked(function: str, reason: str) -> Outcome:
    """A Function that was met and cannot be checked."""
    return Outcome(function, Report(skipped=(Skipped(function, "every check", reason),)), cases=0)
