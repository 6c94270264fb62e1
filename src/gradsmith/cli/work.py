"""Check cases, a Function at a time: in this process, or in as many forked ones as `-j` allows."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from gradsmith.check.battery import check_case
from gradsmith.check.case import Case
from gradsmith.check.finding import Finding
from gradsmith.check.report import Outcome
from gradsmith.check.report_data import Report, merge
from gradsmith.cli.problem import Problem


@dataclass(frozen=True)
class Options:
    """What the user asked of every check."""

    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    budget: float | None = None  # seconds a case
    jobs: int = 1


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


def check_job(job: Job, options: Options) -> Outcome:
    """Check one Function."""
    start = time.perf_counter()
    reports = [
        check_case(case, only=options.only or None, skip=options.skip or None, budget=options.budget)
        for case in job.cases
    ]
    seconds = time.perf_counter() - start
    return Outcome(job.name, merge(reports), seconds, len(job.cases), job.cases[0].location("forward"))


def check_all(jobs: Sequence[Job], options: Options) -> Iterator[tuple[int, Outcome]]:
    """Check every Function; yields each with its position among `jobs`, in the order in which they are done."""
    if options.jobs == 1:
        for position, job in enumerate(jobs):
            yield position, check_job(job, options)
    else:
        yield from _check_forked(jobs, options)


def _check_forked(jobs: Sequence[Job], options: Options) -> Iterator[tuple[int, Outcome]]:
    """A forked child a Function: cases hold classes of `__main__` and closures, which cannot be pickled."""
    if "fork" not in multiprocessing.get_all_start_methods():
        raise Problem("-j needs a system that can fork; leave it out")
    if torch.cuda.is_initialized():
        raise Problem("-j cannot be used once a program has used CUDA, which does not survive a fork; leave it out")
    context = multiprocessing.get_context("fork")
    waiting = list(reversed(list(enumerate(jobs))))
    running: dict[Any, tuple[int, Any, Job]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < options.jobs:
                position, job = waiting.pop()
                receiver, sender = context.Pipe(duplex=False)
                process = context.Process(target=_child, args=(sender, job, options), daemon=True)
                process.start()
                sender.close()
                running[receiver] = position, process, job
            for ready in multiprocessing.connection.wait(list(running)):
                position, process, job = running.pop(ready)
                yield position, _received(ready, process, job)
    finally:
        for _, process, _ in running.values():
            process.kill()


def _child(sender: Any, job: Job, options: Options) -> None:
    torch.set_num_threads(1)  # the parent's threads did not come along in the fork
    sender.send(check_job(job, options))


def _received(receiver: Any, process: Any, job: Job) -> Outcome:
    try:
        outcome: Outcome = receiver.recv()
    except EOFError:  # it died without an answer
        process.join()
        return Outcome(job.name, Report((_died(job, process.exitcode),)), 0.0, len(job.cases))
    process.join()
    return outcome


def _died(job: Job, exitcode: int) -> Finding:
    how = f"was killed by signal {-exitcode}" if exitcode < 0 else f"ended with status {exitcode}"
    return Finding(
        code="crash",
        severity="error",
        function=job.name,
        argument=None,
        message=f"checking {job.name} ended the process: it {how}",
        evidence={"exit status": exitcode},
        advice="run with -j 1 under a debugger, or call the forward and backward alone on the same inputs",
        location=job.cases[0].location("backward"),
    )
