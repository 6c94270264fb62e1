"""`profile`: time, memory and the cost of a call, of a function with its gradient and of what it is to replace."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from gradsmith.profile.agreement import difference
from gradsmith.profile.limit import Yardstick
from gradsmith.profile.machine import this_machine
from gradsmith.profile.peak import usage
from gradsmith.profile.result import Measurement, Profile
from gradsmith.profile.saved import saved
from gradsmith.profile.timing import Round, Spread, interleave, trusted
from gradsmith.profile.work import Work, describe, name_of

REFERENCE, COMPILED = "reference", "compiled"
_DOUBTFUL = 1e-2  # relative difference from the reference


def profile(
    fn: Callable[..., Any],
    inputs: Any,
    reference: Callable[..., Any] | None = None,
    *,
    kwargs: Mapping[str, Any] | None = None,
    compiled: bool = True,
    seconds: float = 3.0,
) -> Profile:
    """Measure a function with its backward, beside the `reference` that it is to replace.

    Function, reference and compiled reference take turns, in reversed order every second round, and rounds in which
    other processes used the machine do not count where enough others remain; so the ratios hold even where the times
    do not. The median of the rounds is reported with its quartiles. Bytes saved, the peak and the number of operators
    and allocations come from torch's own hooks and profiler, and are the same in every run.

    Args:
        fn: any callable that returns tensors: an op, an `autograd.Function.apply`, a module, a compiled function.
        inputs: its positional arguments; a single tensor stands for a tuple of one. Gradients are taken for those
            that require one, and for the parameters of a module. Where none does, the forward alone is measured.
        reference: what to compare with, called with the same arguments.
        kwargs: keyword arguments for both.
        compiled: measure `torch.compile(reference)`, too. Where it cannot be compiled, a note says why.
        seconds: how long to time; at least five rounds are run, and each contender once more for everything else.

    Returns:
        A `Profile`; `print` shows it as a table, `.to_json()` is for machines.

    Raises:
        ProfileError: a function returns no tensor, returns something without a gradient where the inputs require
            one, or returns something else than the reference. What the functions raise comes through unchanged.

    What it does not see: memory that native code takes outside torch's allocator, tensors kept on a `ctx` by plain
    assignment (in the bytes saved; the peak has them), and what another regime of memory would give: see
    `gs.reuse_memory`.

    >>> import torch, gradsmith as gs
    >>> x = torch.randn(64, 1000, requires_grad=True)
    >>> result = gs.profile(gs.exp, (x,), torch.exp)                          # doctest: +SKIP
    >>> print(result)                                                         # doctest: +SKIP
    """
    args = inputs if isinstance(inputs, tuple) else (inputs,)
    notes: list[str] = []
    works = [Work(name_of(fn), fn, args, kwargs)]
    if reference is not None:
        works.append(Work(REFERENCE, reference, args, kwargs))
    yardstick = Yardstick(works[-1])
    extra = _compiled(reference, args, kwargs, notes) if compiled and reference is not None else []
    works += [work for work, _ in extra]
    differences = _differences(works, notes)
    measured = [(saved(work), usage(work)) for work in works]
    everything = interleave([*works, *yardstick.works], seconds)
    rounds = trusted(everything)
    return Profile(
        function=works[0].name,
        inputs=describe(works[0]),
        measurements=tuple(
            Measurement(work.name, *_times(work, rounds), kept, used, _ratio(works, work, rounds), apart)
            for work, (kept, used), apart in zip(works, measured, differences, strict=True)
        ),
        limit=yardstick.limit(rounds),
        rounds=len(rounds),
        others=_others(rounds),
        compiling=next((took for _, took in extra), None),
        machine=this_machine(works[0].device),
        notes=tuple(notes),
    )


def _compiled(
    reference: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any] | None, notes: list[str]
) -> list[tuple[Work, float]]:
    """The compiled reference, warm, and the seconds that took; nothing but a note where it fails."""
    start = time.perf_counter()
    try:
        work = Work(COMPILED, torch.compile(reference, dynamic=False), args, kwargs)
        for _ in range(2):
            work.run()
    except Exception as error:  # The isolation boundary: compilers raise anything, and the others are still measured.
        reason = str(error).strip().splitlines() or [""]
        notes.append(f"the reference could not be compiled: {type(error).__name__}: {reason[0][:200]}")
        return []
    return [(work, time.perf_counter() - start)]


def _differences(works: Sequence[Work], notes: list[str]) -> list[float | None]:
    """How far each is from the reference, with a note where that is too far to be the same function."""
    found: list[float | None] = []
    for work in works:
        apart = None if len(works) == 1 or work is works[1] else difference(work, works[1])
        if apart is not None and not apart <= _DOUBTFUL:
            notes.append(f"{work.name} and {works[1].name} do not compute the same: relative difference {apart:.2g}")
        found.append(apart)
    return found


def _times(work: Work, rounds: Sequence[Round]) -> tuple[Spread, Spread | None, Spread]:
    samples = [round.samples[work] for round in rounds]
    backward = Spread.of([sample.backward for sample in samples]) if work.wanted else None
    return Spread.of([s.forward for s in samples]), backward, Spread.of([s.total for s in samples])


def _ratio(works: Sequence[Work], work: Work, rounds: Sequence[Round]) -> float | None:
    if len(works) == 1:
        return None
    return statistics.median(round.samples[works[1]].total / round.samples[work].total for round in rounds)


def _others(rounds: Sequence[Round]) -> float | None:
    known = [round.others for round in rounds if round.others is not None]
    return statistics.median(known) if known else None
