"""Asks: is the derivative of `backward` right, or refused, by every route to a second derivative?

The truth is the slope of the Function's own first-order gradient, by differences in the inputs and by
linearity in the upstream, so that a wrong first derivative is not reported a second time. Cannot see: third
derivatives; a second derivative at a point where the first has a kink.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from gradsmith.check._private import uses_setup_context
from gradsmith.check.case import declaration
from gradsmith.check.checks.double_backward_scripts import SCRIPT_OF_UPSTREAM, script
from gradsmith.check.checks.saves import node_of
from gradsmith.check.deliberate import sort_out
from gradsmith.check.finding import Finding
from gradsmith.check.findings import finding
from gradsmith.check.isolation import Raised
from gradsmith.check.judge import jittered
from gradsmith.check.oracle import inner, random_direction, size_of
from gradsmith.check.second_order import (
    CONSTANT,
    FUNC,
    VARIABLE,
    along_upstream,
    is_additive,
    rounding_along_upstream,
    rounding_in_first,
    rounding_in_second,
    second_derivatives,
    slope_of_first,
    usual_rounding,
)
from gradsmith.check.subject import Subject

CODES = ("double-backward-wrong", "no-double-backward", "leaky-guard")
CERTAIN = 8  # a deviation counts that is this much larger than the error of the differences


@dataclass(frozen=True)
class Answer:
    """What one route said: right, wrong (about `argument`), refused with `error`, or not to be decided."""

    route: str
    verdict: Literal["right", "wrong", "refused", "unknown"]
    argument: str | None = None
    got: float = 0.0
    expected: float = 0.0
    detached: bool = False  # nothing of the gradient was connected at all
    error: str = ""


def check(subject: Subject) -> Iterator[Finding]:
    if not once_by_torch(subject) and sort_out(subject)[1]:
        subject.refused.append("the first derivative is wrong; ask for the second when that is repaired")
        return
    answers = [_answer(subject, route) for route in _routes(subject)]
    if all(answer.verdict == "unknown" for answer in answers):
        subject.refused.append("second derivatives could not be judged here: the first has a kink, or is too imprecise")
    subject.variations += [answer.route for answer in answers]
    wrong = [answer for answer in answers if answer.verdict == "wrong"]
    refused = [answer for answer in answers if answer.verdict == "refused"]
    if once_by_torch(subject):
        yield _not_twice(subject, "it is marked once_differentiable")
        if wrong:
            yield _leaky(subject, wrong)
    elif wrong:
        yield _wrong(subject, wrong, refused)
    elif refused:
        yield _not_twice(subject, refused[0].error)


def once_by_torch(subject: Subject) -> bool:
    """Whether `backward` wears torch's `once_differentiable`: its wrapper's code is the same for every
    Function."""
    backward: Any = getattr(subject.case.function_class, "backward", None)
    wrapper: Any = torch.autograd.function.once_differentiable(once_by_torch)
    return getattr(backward, "__code__", None) is wrapper.__code__


def _routes(subject: Subject) -> list[str]:
    cls = subject.case.function_class
    func = cls is not None and uses_setup_context(cls) and declaration(cls) is None
    return [VARIABLE, CONSTANT, *([FUNC] if func else [])]


def _answer(subject: Subject, route: str) -> Answer:
    """What the route says; where the first derivative has a kink at the point, what it says close by."""
    answer = _answer_here(subject, route)
    if answer.verdict != "unknown":
        return answer
    nearby = subject.at(jittered(subject, 0), label="close by, away from the kink")
    return _answer_here(nearby, route) if nearby.failure is None else answer


def _answer_here(subject: Subject, route: str) -> Answer:
    try:
        seconds, upstream_part = second_derivatives(subject, route)
    except Raised as raised:
        return Answer(route, "refused", error=str(raised))
    detached = all(second is None for second in (*seconds, upstream_part))
    usual, undecided = usual_rounding(subject), False
    for position in subject.arguments:
        second = seconds[position]
        direction = random_direction(subject.inputs[position], 40)
        got = 0.0 if second is None else inner(second.detach(), direction)
        estimate = slope_of_first(subject, position, direction, abs(got))
        size = max(abs(estimate.value), abs(got), 0.0 if second is None else size_of([second], [direction]))
        allowed = 5 * subject.tolerance.relative * size + usual
        off = abs(estimate.value - got)
        if estimate.usable and off > max(allowed, CERTAIN * estimate.error):
            if not _through_surrogate(subject) and _confirmed(subject, route, position, direction, got, allowed):
                return Answer(route, "wrong", subject.argument(position), got, estimate.value, detached)
            undecided = True
        else:
            undecided = undecided or not (estimate.usable and estimate.error <= allowed + 50 * usual)
    if route == VARIABLE and is_additive(subject):
        got, expected = float(upstream_part or 0.0), along_upstream(subject)
        allowed = 5 * subject.tolerance.relative * max(abs(got), abs(expected)) + usual
        if abs(got - expected) > allowed and abs(got - expected) > rounding_along_upstream(subject):
            return Answer(route, "wrong", "the upstream gradient", got, expected, detached)
    return Answer(route, "unknown" if undecided else "right")


def _confirmed(
    subject: Subject, route: str, position: int, direction: torch.Tensor, got: float, allowed: float
) -> bool:
    """A second ladder of other steps says the same, also with the rounding in both derivatives measured."""
    noise = rounding_in_first(subject) / CERTAIN  # has a margin of its own
    again = slope_of_first(subject, position, direction, abs(got), stretch=0.61, noise=noise)
    off = abs(again.value - got)
    if not again.usable or off <= max(allowed, CERTAIN * again.error):
        return False
    return off > rounding_in_second(subject, route, position, direction)


def _through_surrogate(subject: Subject) -> bool:
    """Whether a surrogate's backward uses its own output: a second derivative then follows the surrogate again,
    as it should, and the output's slope says nothing."""
    meant = sort_out(subject)[0]
    if meant is None or meant.code != "surrogate-gradient":
        return False
    run = subject.forward()
    node = node_of(subject, run)
    kept = getattr(node, "saved_tensors", ())
    return any(isinstance(value, torch.Tensor) and value.grad_fn is node for value in kept)


def _wrong(subject: Subject, wrong: Sequence[Answer], refused: Sequence[Answer]) -> Finding:
    worst = wrong[0]
    of = worst.argument if worst.argument == "the upstream gradient" else f"`{worst.argument}`"
    how = (
        "is cut off: backward returns gradients without a graph"
        if worst.detached
        else "is zero" if worst.got == 0.0
        else "is wrong"
    )  # fmt: skip
    routes = "" if len(wrong) > 1 or not refused else f" by {worst.route}, though other routes refuse it"
    plain = worst.argument != "the upstream gradient"
    return finding(
        subject,
        "double-backward-wrong",
        worst.argument if plain else None,
        f"the second derivative in {of} {how}{routes}, and nothing says so",
        evidence={
            "along_a_random_direction": {"got": worst.got, "expected": worst.expected},
            "ratio": worst.got / worst.expected if worst.got and worst.expected else None,
            "routes": [answer.route for answer in wrong],
            "oracle": "differences of the first-order gradient" if plain else "linearity in the upstream",
        },
        advice="compute in backward from saved inputs and outputs, with differentiable torch operations; an "
        "intermediate saved in forward has lost its graph: save what it is computed from instead",
        show=script(worst.route == CONSTANT) if plain else SCRIPT_OF_UPSTREAM,
    )


def _leaky(subject: Subject, wrong: Sequence[Answer]) -> Finding:
    routes = [answer.route for answer in wrong]
    return finding(
        subject,
        "leaky-guard",
        None,
        f"once_differentiable does not guard every route: a second derivative comes out wrong by {'; '.join(routes)}",
        evidence={"routes": routes, "got": wrong[0].got, "expected": wrong[0].expected},
        advice="use gradsmith's guard (gs.Function or gs.op with once=True), which raises by every route",
    )


def _not_twice(subject: Subject, why: str) -> Finding:
    return finding(
        subject,
        "no-double-backward",
        None,
        f"second derivatives are refused: {why}",
        advice="nothing to do, unless second derivatives are needed",
    )
