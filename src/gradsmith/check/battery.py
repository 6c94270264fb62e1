"""The battery: every check on a case, and `check`, which finds the cases in whatever it is given."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import torch

from gradsmith.check.case import Case
from gradsmith.check.checks import CHECKS, CODES, Check
from gradsmith.check.finding import Finding, Skipped
from gradsmith.check.findings import author_line, finding, severity_of
from gradsmith.check.isolation import Raised, first_line, seeded
from gradsmith.check.record import record
from gradsmith.check.report_data import Checked, Report, merge
from gradsmith.check.subject import Subject


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
        reference: a plain forward of the same arguments; its autodiff in float64 is taken for the truth. For
            a surrogate, the function whose gradient the backward is declared to be.
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
    wanted = _selected(only, skip)
    deadline = None if budget is None else time.monotonic() + budget
    chosen = {name: entry for name, entry in CHECKS.items() if wanted & set(entry.codes)}
    try:
        subject = Subject(case)
    except Raised as raised:
        failed = _failed(case, raised)
        return Report(
            findings=(failed,) if "crash" in wanted else (),
            skipped=_all_skipped(case, chosen, "forward does not run on the inputs given"),
            checked=(Checked(case.name, "crash", ("as given",)),),
        )
    findings: list[Finding] = []
    skipped: list[Skipped] = []
    checked: list[Checked] = []
    for name, entry in chosen.items():
        spent = deadline is not None and time.monotonic() >= deadline
        reason = "budget spent" if spent else _unfit(subject, entry, only is not None)
        if reason:
            skipped.append(Skipped(case.name, name, reason))
            continue
        subject.variations, subject.refused = [], []
        try:
            findings += [found for found in entry.run(subject) if found.code in wanted]
        except Raised as raised:
            skipped.append(Skipped(case.name, name, f"the {raised}"))
            continue
        except Exception as error:  # The isolation boundary: one check that fails must not take the others with it.
            failure = f"the check itself failed: {type(error).__name__}: {first_line(error)}"
            skipped.append(Skipped(case.name, name, failure))
            continue
        checked.append(Checked(case.name, name, tuple(subject.variations) or (subject.label,)))
        skipped += [Skipped(case.name, name, reason) for reason in dict.fromkeys(subject.refused)]
    return merge([Report(tuple(findings), tuple(skipped), tuple(checked))])


def cases_of(
    fn: Any,
    inputs: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    reference: Callable[..., Any] | None = None,
) -> list[Case]:
    """The cases in `fn`: itself if it is a Function, else those it calls, else itself as a plain callable.

    Raises:
        Raised: calling `fn` raises before it applied any Function.
        TypeError: `fn` is not callable.
    """
    function_class = function_class_of(fn)
    if function_class is not None:
        return [Case.of(function_class, inputs, kwargs, reference=reference)]
    if not callable(fn):
        raise TypeError(f"check takes a Function, a module or a callable, and got {type(fn).__name__}: {fn!r}")
    with record() as recording:
        failure: Raised | None = None
        try:
            with seeded(), torch.enable_grad():
                fn(*_requiring(inputs), **kwargs)
        except Exception as error:  # The isolation boundary: `fn` is anybody's code.
            failure = Raised("call", error)
    if recording.cases:
        return _with_reference(recording.cases, reference)
    if failure is not None:
        raise failure
    return [_plain_case(fn, inputs, kwargs, reference)]


def function_class_of(fn: Any) -> type[torch.autograd.Function] | None:
    """The Function class that `fn` is, or is the `apply` of."""
    owner = getattr(fn, "__self__", None) if inspect.ismethod(fn) and fn.__name__ == "apply" else fn
    return owner if inspect.isclass(owner) and issubclass(owner, torch.autograd.Function) else None


def _with_reference(cases: list[Case], reference: Callable[..., Any] | None) -> list[Case]:
    """A `reference` belongs to the callable; it can be a Function's only where there is one."""
    if reference is None:
        return cases
    if len({case.name for case in cases}) > 1:
        names = ", ".join(dict.fromkeys(case.name for case in cases))
        raise ValueError(
            f"reference= is for one Function, and this callable applies several: {names}; check each alone"
        )
    return [dataclasses.replace(case, reference=reference) for case in cases]


def _requiring(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The inputs, all floating ones requiring a gradient if none does."""
    if any(isinstance(v, torch.Tensor) and v.requires_grad for v in inputs):
        return inputs
    return tuple(
        v.detach().requires_grad_() if isinstance(v, torch.Tensor) and v.is_floating_point() else v for v in inputs
    )


def _plain_case(
    fn: Callable[..., Any],
    inputs: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    reference: Callable[..., Any] | None,
) -> Case:
    """A callable as its own case; a module's parameters become arguments beside its inputs."""
    target = fn.forward if isinstance(fn, torch.nn.Module) else fn
    try:
        names = list(inspect.signature(target).parameters)[: len(inputs)]
    except (TypeError, ValueError):
        names = []
    names += [f"argument {i}" for i in range(len(names), len(inputs))]
    name = getattr(fn, "__qualname__", type(fn).__name__)
    if not isinstance(fn, torch.nn.Module):
        return Case(fn, inputs, dict(kwargs), name, tuple(names), reference)
    parameters = dict(fn.named_parameters())
    count = len(inputs)

    def call(*values: Any, **keywords: Any) -> Any:
        replaced = dict(zip(parameters, values[count:], strict=True))
        return torch.func.functional_call(fn, replaced, values[:count], keywords)

    values = tuple(parameter.detach().clone().requires_grad_() for parameter in parameters.values())
    return Case(call, (*inputs, *values), dict(kwargs), type(fn).__name__, (*names, *parameters), reference)


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
    if not subject.repeats and (entry.compares or entry.needs == "backward") and entry.run is not CHECKS["state"].run:
        return "forward gives something else at each call"
    if entry.compares and not subject.steady:
        return "backward gives something else at each call"
    return ""


def _all_skipped(case: Case, chosen: Mapping[str, Check], reason: str) -> tuple[Skipped, ...]:
    return tuple(Skipped(case.name, name, reason) for name in chosen if name != "crash")


def _failed(case: Case, raised: Raised) -> Finding:
    """The forward raises on what it was given."""
    subject = Subject(case, tuple(case.inputs))
    text = f"{type(raised.error).__name__}: {raised.error}"
    return finding(
        subject,
        "crash",
        None,
        f"forward raises on the inputs given: {text.splitlines()[0]}",
        evidence={"exception": text, "stage": raised.stage},
        advice="call it on these inputs by itself; the exception is the author's own code's",
        raised=raised,
        where="forward",
    )


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
