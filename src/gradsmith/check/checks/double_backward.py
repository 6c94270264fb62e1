"""Asks: is the derivative of `backward` right, or refused, by every route to a second derivative?

The truth is the slope of the Function's own first-order gradient, by differences in the inputs and by
linearity in the upstream, so that a wrong first derivative is not reported a second time. Cannot see: third
derivatives; a second derivative at a point where the first has a kink.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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
from gradsmith.check.inputs import spread_like
from gradsmith.check.isolation import Raised, seeded, user_code
from gradsmith.check.judge import jittered
from gradsmith.check.oracle import inner, random_direction, size_of, slope_of
from gradsmith.check.subject import Subject

CODES = ("double-backward-wrong", "no-double-backward", "leaky-guard")

CONSTANT = "autograd.grad with a constant upstream"
VARIABLE = "autograd.grad with an upstream that requires a gradient"
FUNC = "torch.func.grad of torch.func.grad"


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
    weights = _weights(subject)
    try:
        seconds, upstream_part = _second(subject, route, weights)
    except Raised as raised:
        return Answer(route, "refused", error=str(raised))
    detached = all(second is None for second in (*seconds, upstream_part))
    undecided = False
    for position in subject.arguments:
        second = seconds[position]
        direction = random_direction(subject.inputs[position], 40)
        got = 0.0 if second is None else inner(second.detach(), direction)
        estimate = _slope(subject, position, direction, weights, abs(got))
        size = max(abs(estimate.value), abs(got), 0.0 if second is None else size_of([second], [direction]))
        allowed = 5 * subject.tolerance.relative * size + _rounding(subject, weights)
        off = abs(estimate.value - got)
        if estimate.usable and off > allowed and off > 8 * estimate.error and _through_surrogate(subject):
            undecided = True
            continue
        if estimate.usable and off > allowed and off > 8 * estimate.error:
            again = _slope(subject, position, direction, weights, abs(got), stretch=0.61)
            if again.usable and abs(again.value - got) > max(allowed, 8 * again.error):
                name = subject.argument(position)
                return Answer(route, "wrong", name, got, estimate.value, detached)
        known = allowed + 50 * _rounding(subject, weights)
        undecided = undecided or not (estimate.usable and estimate.error <= known)
    if route == VARIABLE and _linear(subject):
        expected = _along_upstream(subject, weights)
        got = float(upstream_part or 0.0)
        allowed = 5 * subject.tolerance.relative * max(abs(got), abs(expected)) + _rounding(subject, weights)
        if abs(got - expected) > allowed:
            return Answer(route, "wrong", "the upstream gradient", got, expected, detached)
    return Answer(route, "unknown" if undecided else "right")


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


def _weights(subject: Subject) -> list[torch.Tensor]:
    """What the first derivatives are weighted with to be one number: random, one tensor an argument."""
    generator = torch.Generator().manual_seed(99)
    return [spread_like(subject.inputs[position], generator) for position in subject.arguments]


def _second(
    subject: Subject, route: str, weights: Sequence[torch.Tensor]
) -> tuple[list[torch.Tensor | None], float | None]:
    """The gradient of the weighted first derivatives in every input, and its slope along the other
    upstream."""
    if route == FUNC:
        return _second_by_func(subject, weights), None
    run = subject.forward()
    upstream = [up.clone().requires_grad_(route == VARIABLE) for up in subject.base_upstream]
    grads = subject.backward(run, upstream, create_graph=True)
    total = _weighted(subject, grads, weights)
    wanted = [leaf for leaf in run.leaves if leaf is not None] + (upstream if route == VARIABLE else [])
    if total is None or not total.requires_grad:
        found: Sequence[torch.Tensor | None] = [None] * len(wanted)
    else:
        with user_code("double backward"), seeded():
            found = torch.autograd.grad(total, wanted, allow_unused=True)
    answers = iter(found)
    seconds = [None if leaf is None else next(answers) for leaf in run.leaves]
    rest = list(answers)
    pairs = [(part, other) for part, other in zip(rest, _other_upstream(subject), strict=False) if part is not None]
    return seconds, sum(inner(part.detach(), other) for part, other in pairs) if pairs else None


def _weighted(
    subject: Subject, grads: Sequence[torch.Tensor | None], weights: Sequence[torch.Tensor]
) -> torch.Tensor | None:
    parts = [
        (weight.conj() * grad).real.sum() if grad.is_complex() else (weight * grad).sum()
        for weight, grad in zip(weights, (grads[position] for position in subject.arguments), strict=True)
        if grad is not None and grad.requires_grad
    ]
    return torch.stack(parts).sum() if parts else None


def _second_by_func(subject: Subject, weights: Sequence[torch.Tensor]) -> list[torch.Tensor | None]:
    upstream = subject.base_upstream
    places = [i for i, out in enumerate(subject.base.outputs) if isinstance(out, torch.Tensor) and out.requires_grad]

    def call(*values: torch.Tensor) -> torch.Tensor:
        given = list(subject.inputs)
        for position, value in zip(subject.arguments, values, strict=True):
            given[position] = value
        out = subject.case.function(*given, **subject.case.kwargs)
        outputs = out if isinstance(out, tuple | list) else (out,)
        return torch.stack([(up.conj() * outputs[i]).real.sum() for i, up in zip(places, upstream, strict=True)]).sum()

    everything = tuple(range(len(subject.arguments)))
    first: Callable[..., Any] = torch.func.grad(call, argnums=everything)

    def weighted(*values: torch.Tensor) -> torch.Tensor:
        return torch.stack([(w.conj() * g).real.sum() for w, g in zip(weights, first(*values), strict=True)]).sum()

    values = tuple(subject.inputs[position].detach().clone() for position in subject.arguments)
    with user_code("torch.func.grad"), seeded():
        found = torch.func.grad(weighted, argnums=everything)(*values)
    seconds: list[torch.Tensor | None] = [None] * len(subject.inputs)
    for position, second in zip(subject.arguments, found, strict=True):
        seconds[position] = second.detach()
    return seconds


def _slope(
    subject: Subject, position: int, direction: torch.Tensor, weights: Sequence[torch.Tensor], guess: float,
    stretch: float = 1.0,
) -> Any:  # fmt: skip
    """How the weighted first derivatives change along `direction`."""

    def first_order(inputs: tuple[Any, ...]) -> list[torch.Tensor]:
        _, grads = subject.vjp(inputs, subject.base_upstream)
        return [_or_zero(grads[place], subject.inputs[place]) for place in subject.arguments]

    accuracy = 0.05 * subject.tolerance.relative * guess
    return slope_of(first_order, subject, position, direction, weights, accuracy=accuracy, stretch=stretch)


def _or_zero(grad: torch.Tensor | None, like: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(like) if grad is None else grad.detach()


def _other_upstream(subject: Subject) -> tuple[torch.Tensor, ...]:
    return subject.upstream(subject.base.differentiable, which=3)


def _along_upstream(subject: Subject, weights: Sequence[torch.Tensor]) -> float:
    """The first derivatives are linear in the upstream: their slope along another one is what they are for
    that one."""
    grads = subject.backward(subject.base, _other_upstream(subject), retain_graph=True)
    firsts = [_or_zero(grads[position], subject.inputs[position]) for position in subject.arguments]
    return sum(inner(weight, first) for weight, first in zip(weights, firsts, strict=True))


def _linear(subject: Subject) -> bool:
    """Whether the gradients of a sum of two upstreams are the sum of theirs; a modifier may decide by sign."""
    others = _other_upstream(subject)
    summed = [up + other for up, other in zip(subject.base_upstream, others, strict=True)]
    parts = (subject.base_grads, *(subject.backward(subject.base, up, retain_graph=True) for up in (others, summed)))
    return all(
        first is None or second is None or total is None
        or torch.allclose(first + second, total, rtol=1e-3, atol=1e-3 * float(total.abs().max()), equal_nan=True)
        for first, second, total in zip(*parts, strict=True)
        if total is None or total.numel()
    )  # fmt: skip


def _rounding(subject: Subject, weights: Sequence[torch.Tensor]) -> float:
    firsts = [_or_zero(subject.base_grads[place], subject.inputs[place]) for place in subject.arguments]
    return 2000 * subject.tolerance.eps * size_of(weights, firsts)


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
