"""The battery: every check on a case, and `check`, which finds the cases in whatever it is given."""

from __future__ import annotations

import difflib
import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from gradsmith.check.case import Case
from gradsmith.check.cases import cases_of
from gradsmith.check.checks import CHECKS, CODES, Check
from gradsmith.check.checks.crash import crash_of
from gradsmith.check.device import ELSEWHERE, lacks_device
from gradsmith.check.finding import Finding, Skipped
from gradsmith.check.findings import author_line, severity_of
from gradsmith.check.isolation import Raised, first_line
from gradsmith.check.report_data import Checked, Report, merge
from gradsmith.check.subject import Subject
from gradsmith.check.unwritten import unwritten
from gradsmith.check.watch import Overdue, Spent, Stopped, Watch, active, watching


def check(
    fn: Any,
    inputs: tuple[Any, ...] | torch.Tensor,
    kwargs: Mapping[str, Any] | None = None,
    *,
    reference: Callable[..., Any] | None = None,
    only: Collection[str] | str | None = None,
    skip: Collection[str] | str | None = None,
    budget: float | None = None,
) -> Report:
    """Check the gradients of `fn` at `inputs`.

    Args:
        fn: a `torch.autograd.Function` class or its `.apply`, an op, an `nn.Module`, or any callable. A
            callable that calls custom Functions is run once, and each of them is checked with what it was
            given there; one that calls none is checked itself, as `gradcheck` would.
        inputs: the arguments, a tuple as for `gradcheck` (a single tensor stands for itself). Gradients are
            checked for those that require one; for all floating ones if none does. Moved to float64 where
            the Function allows it.
        kwargs: keyword arguments.
        reference: a plain forward, called with the same arguments, `kwargs` by keyword; its autodiff in float64 is
            taken for the truth. For a surrogate, the function whose gradient the backward is declared to be.
        only: codes to look for, and no others. skip: codes to leave out.
        budget: seconds; what does not fit is reported as skipped.

    Returns:
        A `Report`; `report.ok` is False where there is an error.

    Raises:
        ValueError: a code in `only` or `skip` is unknown.
        TypeError: `fn` is not callable.

    What passing does not prove: only the inputs given and their variations were looked at.

        >>> import torch
        >>> from gradsmith.check.battery import check
        >>> class Square(torch.autograd.Function):
        ...     @staticmethod
        ...     def forward(ctx, x):
        ...         ctx.save_for_backward(x)
        ...         return x * x
        ...     @staticmethod
        ...     def backward(ctx, grad):
        ...         return grad * ctx.saved_tensors[0]
        >>> check(Square, (torch.tensor([1.0, 3.0], requires_grad=True),), only="gradient-scale").codes
        ('gradient-scale',)
    """
    _selected(only, skip)
    arguments = (inputs,) if isinstance(inputs, torch.Tensor) else tuple(inputs)
    deadline = None if budget is None else time.monotonic() + budget
    try:
        cases = cases_of(fn, arguments, kwargs or {}, reference=reference)
    except Raised as raised:
        return Report(findings=(_crash_of_call(fn, raised),))
    remaining = (lambda: None) if deadline is None else (lambda: max(0.0, deadline - time.monotonic()))
    return merge(check_case(case, only=only, skip=skip, budget=remaining()) for case in cases)


def check_case(
    case: Case,
    *,
    only: Collection[str] | str | None = None,
    skip: Collection[str] | str | None = None,
    budget: float | None = None,
) -> Report:
    """Run the battery on one case; never raises what the checked code raises.

    Raises:
        ValueError: a code in `only` or `skip` is unknown.
    """
    asked = examine(case, only=only, skip=skip, budget=budget)
    return merge([Report(), *(question.answer for question in asked if question.answer is not None)])


@dataclass(frozen=True)
class Question:
    """A check that is about to be asked and takes at most so many `seconds`; then the same with its `answer`."""

    check: str
    seconds: float
    answer: Report | None = None


FORWARD, BACKWARD = "forward", "backward"  # the questions before all checks: do they run on the inputs given?


def examine(
    case: Case,
    *,
    only: Collection[str] | str | None = None,
    skip: Collection[str] | str | None = None,
    budget: float | None = None,
    without: Collection[str] = (),
) -> Iterator[Question]:
    """`check_case` a question at a time, each announced before it is asked; those in `without` are left out."""
    wanted = _selected(only, skip)
    ends = math.inf if budget is None else time.monotonic() + budget
    chosen = {name: entry for name, entry in chosen_checks(only, skip).items() if name not in without}
    with nullcontext(active()) if active() else watching() as watch:
        assert watch is not None
        yield Question(FORWARD, watch.allow(ends, budget))
        subject, answer = _at_the_point(case, chosen, wanted)
        yield Question(FORWARD, 0.0, answer)
        if subject is None:
            return
        yield Question(BACKWARD, watch.allow(ends, budget))
        subject, answer = _backward_once(subject, watch)
        refusal = _refusal(subject)
        yield Question(BACKWARD, 0.0, answer if refusal is None else refusal)
        if refusal is not None:
            return
        for name, entry in chosen.items():
            yield Question(name, watch.allow(ends, entry.seconds))
            spent = time.monotonic() >= ends
            answer = _skipped(subject, name, "budget spent") if spent else _ask(subject, name, entry, wanted, only)
            yield Question(name, 0.0, answer)


def chosen_checks(only: Collection[str] | str | None, skip: Collection[str] | str | None) -> dict[str, Check]:
    """The checks that may answer one of the codes asked for."""
    wanted = _selected(only, skip)
    return {name: entry for name, entry in CHECKS.items() if wanted & set(entry.codes)}


def _at_the_point(case: Case, chosen: Mapping[str, Check], wanted: Collection[str]) -> tuple[Subject | None, Report]:
    """The subject, or None and why there is none."""
    try:
        return Subject(case), Report()
    except Raised as raised:
        if lacks_device(raised.error):
            return None, Report(skipped=(Skipped(case.name, "every check", f"the {raised}; {ELSEWHERE}"),))
        why = "forward does not run on the inputs given"
        skipped = tuple(Skipped(case.name, name, why) for name in chosen if name != "crash")
        findings = (_failed(case, raised),) if "crash" in wanted else ()
        return None, Report(findings, skipped, (Checked(case.name, "crash", ("as given",)),))
    except (Spent, Stopped) as spent:
        return None, Report(skipped=tuple(Skipped(case.name, name, str(spent)) for name in chosen))


def _backward_once(subject: Subject, watch: Watch) -> tuple[Subject, Report]:
    """Run forward and backward: what that takes is the measure of how long a call may take later.

    A backward that raises in float64 may run in the precision that was given; then that is what is checked.
    """
    start = time.monotonic()
    try:
        failure = subject.failure
        if failure is not None and not isinstance(failure.error, Overdue):
            start = time.monotonic()
            given = Subject(subject.case, tuple(subject.case.inputs))
            subject = given if given.base_runs else subject
        if subject.failure is None:
            watch.settle(time.monotonic() - start)
    except (Spent, Stopped) as spent:
        return subject, _skipped(subject, BACKWARD, str(spent))
    return subject, Report()


def _refusal(subject: Subject) -> Report | None:
    """What is said where no gradient was asked for and the forward, which ran, raises when one is."""
    failure = None if any(subject.case.asked_for) else subject.failure
    if failure is None or failure.stage != "forward" or isinstance(failure.error, Overdue):
        return None
    return _skipped(subject, "every check", f"no gradient was asked for; asked for all, the {failure}")


def _ask(
    subject: Subject, name: str, entry: Check, wanted: Collection[str], only: Collection[str] | str | None
) -> Report:
    """The answer of one check, and why it has none or not a whole one."""
    subject.variations, subject.refused, subject.measured = [], [], []
    findings: list[Finding] = []
    try:
        why = _unfit(subject, entry, only is not None)
        for found in () if why else entry.run(subject):
            findings += [found] if found.code in wanted else []
    except Raised as raised:
        why = f"the {raised}"
    except (Spent, Stopped) as spent:
        why = str(spent)
    except Exception as error:  # The isolation boundary: one check that fails must not take the others with it.
        why = f"the check itself failed: {type(error).__name__}: {first_line(error)}"
    if why:
        return _skipped(subject, name, why, findings)
    checked = Checked(subject.case.name, name, tuple(subject.variations) or (subject.label,))
    refused = tuple(Skipped(subject.case.name, name, reason) for reason in dict.fromkeys(subject.refused))
    return Report(tuple(findings), refused, (checked,), tuple(subject.measured))


def _skipped(subject: Subject, name: str, why: str, findings: Sequence[Finding] = ()) -> Report:
    return Report(tuple(findings), (Skipped(subject.case.name, name, why),))


def _selected(only: Collection[str] | str | None, skip: Collection[str] | str | None) -> set[str]:
    """The codes asked for."""
    chosen = set(CODES)
    if only is not None:
        chosen &= _known(only)
    if skip is not None:
        chosen -= _known(skip)
    return chosen


def _known(codes: Iterable[str] | str) -> set[str]:
    names = {codes} if isinstance(codes, str) else set(codes)
    for name in sorted(names - set(CODES)):
        near = difflib.get_close_matches(name, CODES, n=3, cutoff=0.4)
        hint = f"; did you mean {' or '.join(near)}?" if near else f"; the codes are {', '.join(CODES)}"
        raise ValueError(f"unknown code {name!r}{hint}")
    return names


def _unfit(subject: Subject, entry: Check, named: bool) -> str:
    """Why a check makes no sense here, or nothing; `named` is whether codes were asked for by name."""
    if entry.on_request and not named:
        return f"costs seconds; asked only where it is named: only={entry.codes[0]!r}"
    if entry.needs == "nothing":
        return ""
    if entry.needs == "backward" and subject.failure is not None:
        return f"the {subject.failure}"
    if not subject.base_runs:
        return "forward does not run on the inputs given"
    if entry.needs == "backward" and not subject.base.differentiable:
        return "no output requires a gradient"
    if entry.needs == "backward" and entry.run is not CHECKS["state"].run and unwritten(subject) is not None:
        return "it uses memory that was never written"
    if not subject.repeats and (entry.compares or entry.needs == "backward") and entry.run is not CHECKS["state"].run:
        return "forward gives something else at each call"
    if entry.compares and not subject.steady:
        return "backward gives something else at each call"
    return ""


def _failed(case: Case, raised: Raised) -> Finding:
    """The forward raises on what it was given, or does not return."""
    return crash_of(Subject(case, tuple(case.inputs)), raised)


def _crash_of_call(fn: Any, raised: Raised) -> Finding:
    name = getattr(fn, "__qualname__", type(fn).__name__)
    text = f"{type(raised.error).__name__}: {raised.error}"
    subject = Subject(Case(fn, (), {}, name), ())
    return Finding(
        code="crash",
        severity=severity_of("crash"),
        function=name,
        argument=None,
        message=f"the call raises on the inputs given: {text.splitlines()[0]}",
        evidence={"exception": text, "stage": "call"},
        advice="call it on these inputs by itself; nothing could be checked",
        location=author_line(subject, raised),
    )
