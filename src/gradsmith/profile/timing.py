"""Time several pieces of work in turn, so that whatever disturbs the machine disturbs them alike."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from gradsmith.profile.load import Load
from gradsmith.profile.work import Work

SLOT = 0.05  # seconds a piece of work gets in a round: enough to average over calls of a few microseconds
FEWEST, MOST = 5, 100  # rounds
QUIET = 0.3  # cores that other processes may use in a round that counts


@dataclass(frozen=True)
class Spread:
    """Seconds: the median over the rounds, and the quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Spread:
        low, median, high = statistics.quantiles(seconds, n=4, method="inclusive")
        return cls(median, low, high)


@dataclass(frozen=True)
class Sample:
    """Seconds a call, in one round."""

    forward: float
    backward: float

    @property
    def total(self) -> float:
        return self.forward + self.backward


@dataclass(frozen=True)
class Round:
    """One sample of each piece of work, and how many cores other processes used meanwhile (None: cannot tell)."""

    samples: dict[Work, Sample]
    others: float | None

    @property
    def quiet(self) -> bool:
        return self.others is None or self.others <= QUIET


def interleave(works: Sequence[Work], seconds: float) -> list[Round]:
    """Run rounds in which each piece of work has its turn, in reversed order every second time.

    They go on for `seconds`, for `FEWEST` rounds at least and `MOST` at most. The work must have been warmed up.
    """
    rounds: list[Round] = []
    counts = {work: _calls_in_a_slot(work) for work in works}
    end = time.perf_counter() + seconds
    with _without_collector():
        while len(rounds) < FEWEST or (len(rounds) < MOST and time.perf_counter() < end):
            load = Load()
            order = works if len(rounds) % 2 == 0 else works[::-1]
            samples = {work: _sample(work, counts[work]) for work in order}
            rounds.append(Round(samples, load.others()))
    return rounds


def trusted(rounds: Sequence[Round]) -> list[Round]:
    """The rounds that other processes left alone; all of them where those are fewer than `FEWEST`."""
    quiet = [round for round in rounds if round.quiet]
    return quiet if len(quiet) >= FEWEST else list(rounds)


def time_call(work: Work) -> Sample:
    """Time a forward and a backward. The backward includes freeing the graph, the outputs and the gradients."""
    work.synchronize()
    start = time.perf_counter()
    outputs = work.forward()
    work.synchronize()
    middle = time.perf_counter()
    if not work.wanted:
        return Sample(middle - start, 0.0)
    gradients = work.backward(outputs)
    del outputs, gradients
    work.synchronize()
    return Sample(middle - start, time.perf_counter() - middle)


def _sample(work: Work, count: int) -> Sample:
    calls = [time_call(work) for _ in range(count)]
    return Sample(statistics.median(c.forward for c in calls), statistics.median(c.backward for c in calls))


def _calls_in_a_slot(work: Work) -> int:
    longest = min(time_call(work).total for _ in range(3))
    return max(1, min(1000, int(SLOT / max(longest, 1e-9))))


@contextmanager
def _without_collector() -> Iterator[None]:
    """No garbage collection in the middle of a call, as timeit has it."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
