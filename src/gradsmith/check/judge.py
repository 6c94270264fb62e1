"""Judging a gradient: right, wrong and where, deliberately another, or not to be decided.

Law: an error needs evidence. A gradient is called wrong only where a reference says so, or where differences
say so and know it much better than the deviation they convict.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch

from gradsmith.check.compare import scale
from gradsmith.check.difference import Estimate
from gradsmith.check.inputs import moved
from gradsmith.check.isolation import Raised
from gradsmith.check.oracle import (
    autodiff,
    random_direction,
    replay_of,
    step_sizes,
    wide,
)
from gradsmith.check.subject import Subject
from gradsmith.check.weigh import allowance, base_slope, is_constant, is_kink, refutes, relative_error, supports

Verdict = Literal["right", "wrong", "constant", "unknown"]
FULL = 128  # up to so many elements, differences look at every one
SAMPLE = 24  # beyond, at so many besides those that bisection finds


@dataclass(frozen=True)
class Judgement:
    """What is known of one argument's gradient.

    `expected` holds NaN where nothing was looked at; `wrong` marks the elements that deviate. "constant"
    means that the output does not move at all with the argument, yet the backward gives a gradient.
    """

    verdict: Verdict
    position: int
    got: torch.Tensor
    at: Subject  # the point at which it was judged: the one asked about, or close by
    expected: torch.Tensor | None = None
    wrong: torch.Tensor | None = None
    oracle: str = ""
    error: float = 0.0  # the oracle's own estimate of how far off it may be, relative to the gradient's scale
    missing: bool = False  # the backward gave None
    reason: str = ""  # why unknown
    kink: bool = False

    @property
    def label(self) -> str:
        return self.at.label


def judge(subject: Subject, position: int) -> Judgement:
    """The gradient of the argument at `position`, at the point or, where that is a kink, close by."""
    return subject.cached(f"judge {position}", lambda: _judge(subject, position))


def _judge(subject: Subject, position: int) -> Judgement:
    judgement = _judge_here(subject, position)
    if judgement.verdict != "unknown":
        return judgement
    for attempt in range(2):
        nearby = subject.at(jittered(subject, attempt), label="close by, away from the kink")
        try:
            other = _judge_here(nearby, position)
        except Raised:
            continue
        if other.verdict != "unknown":
            return replace(other, kink=judgement.kink)
    return judgement


def jittered(subject: Subject, attempt: int) -> tuple[object, ...]:
    """The inputs moved by a few per cent, all but those that take no gradient; equal ones move apart."""
    return moved(subject.inputs, subject.arguments, lambda i, x: x + 0.03 * random_direction(x, 500 + attempt + 10 * i))


def _judge_here(subject: Subject, position: int) -> Judgement:
    found = subject.base_grads[position]
    value = subject.inputs[position]
    got = torch.zeros_like(value) if found is None else found.detach()
    start = Judgement("right", position, got, subject, missing=found is None)
    if got.numel() == 0 or not subject.base_upstream:
        return start
    if not all(bool(torch.isfinite(out).all()) for out in subject.base.differentiable):
        return replace(start, verdict="unknown", reason="the forward gives NaN or infinity on these inputs")
    for oracle, expected in _autodiff_oracles(subject, position):
        wrong = deviating(subject, position, got, expected)
        if oracle == "reference":
            verdict: Verdict = "wrong" if bool(wrong.any()) and not _kink_of_reference(subject, position) else "right"
            return replace(start, verdict=verdict, expected=expected, wrong=wrong, oracle=oracle)
        judgement = _with_replay(subject, start, expected, wrong)
        if judgement is not None:
            return judgement
    return _with_differences(subject, start)


def _kink_of_reference(subject: Subject, position: int) -> bool:
    """Whether gradient and reference agree close by: then they only choose differently at a kink."""
    if subject.label.startswith("close by"):
        return False
    nearby = subject.at(jittered(subject, 0), label="close by, away from the kink")
    return nearby.failure is None and _judge_here(nearby, position).verdict == "right"


def _autodiff_oracles(subject: Subject, position: int) -> list[tuple[str, torch.Tensor]]:
    """The gradient by torch's own autodiff, of the reference if there is one, else of the replayed
    forward."""
    name = "reference" if subject.case.reference is not None else "replay"
    function = subject.case.reference or replay_of(subject.case)
    if function is None:
        return []
    plain = function
    try:
        expected = subject.cached(name, lambda: autodiff(subject, plain, subject.base_upstream))[position]
    except Raised as raised:
        if name == "reference":
            raise Raised("reference", raised.error) from raised
        return []
    return [(name, torch.zeros_like(subject.inputs[position]) if expected is None else expected.detach())]


def deviating(subject: Subject, position: int, got: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
    """Which elements of `got` are further from `expected` than the tolerance allows; NaN in `got` is."""
    tolerance = subject.tolerance
    reference_scale = scale(torch.nan_to_num(expected))
    allowed = tolerance.relative * expected.abs() + tolerance.floor * reference_scale + rounding(subject, position)
    off = (wide(got) - wide(expected)).abs() > wide(allowed).abs()
    finite = torch.isfinite(expected)
    return torch.where(finite, off | ~torch.isfinite(got), torch.zeros_like(off))


def rounding(subject: Subject, position: int) -> float:
    """How large a gradient that is exactly zero may come out by rounding."""
    outputs = subject.base.differentiable
    size = max((scale(out) * scale(up) for out, up in zip(outputs, subject.base_upstream, strict=True)), default=0.0)
    return 100 * subject.tolerance.eps * size / max(scale(subject.inputs[position]), 1e-30)


def _with_replay(subject: Subject, start: Judgement, expected: torch.Tensor, wrong: torch.Tensor) -> Judgement | None:
    """The verdict where the replay and differences settle it; None where the replay is found to be no
    derivative."""
    position, got = start.position, torch.nan_to_num(start.got, 0.0, 0.0, 0.0)
    if not bool(wrong.any()):
        direction = random_direction(got, 0)
        estimate = base_slope(subject, position, direction, got)
        if refutes(subject, estimate, got, direction) and _confirmed(subject, position, direction, got):
            return None
        return replace(start, oracle="replay", expected=expected, wrong=wrong)
    # Where they differ, in the direction in which the difference adds up: there one of the two is refuted.
    sign = torch.where(wrong, torch.sgn(torch.nan_to_num(got - expected)), torch.zeros_like(got))
    sign = torch.where(wrong & ~torch.isfinite(start.got), torch.ones_like(sign), sign)
    direction = sign * step_sizes(subject.inputs[position]).to(got.real.dtype) * _few(wrong)
    estimate = base_slope(subject, position, direction, expected)
    if supports(subject, estimate, expected, direction):
        finite = bool(torch.isfinite(start.got).all())
        if finite and not bool(expected.any()) and is_constant(subject, position, got):
            return replace(start, verdict="constant", oracle="differences")
        if _wrong_alone(subject, start, expected, wrong):
            error = relative_error(estimate, direction, expected)
            return replace(start, verdict="wrong", expected=expected, wrong=wrong, oracle="replay", error=error)
        return replace(start, oracle="replay")
    elif refutes(subject, estimate, expected, direction):
        return None
    return replace(
        start,
        verdict="unknown",
        reason="the forward's own derivative differs, but differences are too uncertain to confirm it",
        kink=is_kink(estimate),
    )


def _wrong_alone(subject: Subject, start: Judgement, expected: torch.Tensor, wrong: torch.Tensor) -> bool:
    """Whether one of the worst elements, moved alone, shows it: there no two kinks can hide each other."""
    got = torch.nan_to_num(start.got, 0.0, 0.0, 0.0)
    off = torch.where(wrong, (got - expected).abs(), torch.zeros_like(expected.abs()))
    off = torch.where(wrong & ~torch.isfinite(start.got), torch.full_like(off, torch.inf), off)
    sizes = step_sizes(subject.inputs[start.position]).reshape(-1)
    for place in off.reshape(-1).argsort(descending=True)[:3].tolist():
        unit = torch.zeros_like(got).reshape(-1)
        difference = (got - expected).reshape(-1)[place]
        unit[place] = sizes[place] * (torch.sgn(difference) if bool(difference != 0) else 1.0)
        unit = unit.reshape(got.shape)
        estimate = base_slope(subject, start.position, unit, expected)
        nonfinite = not bool(torch.isfinite(start.got.reshape(-1)[place]))
        if supports(subject, estimate, expected, unit) and (nonfinite or refutes(subject, estimate, got, unit)):
            return True
    return False


def _few(wrong: torch.Tensor) -> torch.Tensor:
    """At most 64 of the marked elements, so that no step of a difference moves many across a kink at once."""
    places = wrong.reshape(-1).nonzero().reshape(-1)
    if places.numel() <= 64:
        return wrong
    chosen = places[torch.linspace(0, places.numel() - 1, 64).long()]
    mask = torch.zeros_like(wrong).reshape(-1)
    mask[chosen] = True
    return mask.reshape(wrong.shape)


def _with_differences(subject: Subject, start: Judgement) -> Judgement:
    position, got = start.position, torch.nan_to_num(start.got, 0.0, 0.0, 0.0)
    undecided: Estimate | None = None
    for which in range(3):
        direction = random_direction(got, which)
        if which == 2:  # aligned with the gradient: a constant factor cannot hide
            direction = direction.abs() * torch.sgn(got) if not got.is_complex() else direction
        estimate = base_slope(subject, position, direction, got)
        if refutes(subject, estimate, got, direction) and _confirmed(subject, position, direction, got):
            return _located(subject, start, direction)
        if not supports(subject, estimate, got, direction):
            undecided = estimate
    if bool((~torch.isfinite(start.got)).any()):
        return _located(subject, start, random_direction(got, 0))
    if undecided is None:
        return replace(start, oracle="differences")
    reason = "differences are too uncertain here"
    return replace(start, verdict="unknown", reason=reason, kink=is_kink(undecided), oracle="differences")


def _confirmed(subject: Subject, position: int, direction: torch.Tensor, got: torch.Tensor) -> bool:
    """A second ladder of other steps says the same: two entries of one ladder may agree by chance."""
    return refutes(subject, base_slope(subject, position, direction, got, stretch=0.61), got, direction)


def _located(subject: Subject, start: Judgement, direction: torch.Tensor) -> Judgement:
    """Which elements are wrong, by differences: every one of a small argument, else those that bisection
    finds."""
    got, position = torch.nan_to_num(start.got, 0.0, 0.0, 0.0), start.position
    if bool(torch.isfinite(start.got).all()) and is_constant(subject, position, got):
        return replace(start, verdict="constant", oracle="differences")
    flat = direction.reshape(-1)
    count = flat.numel()
    places = list(range(count)) if count <= FULL else _suspects(subject, start, direction)
    expected = torch.full_like(got, torch.nan).reshape(-1)
    worst = 0.0
    for place in places:
        estimate, value = _element(subject, position, place, flat, got)
        allowed = allowance(subject, got, direction, estimate.value)
        if estimate.usable and estimate.error <= 3 * max(allowed, subject.tolerance.relative * abs(estimate.value)):
            expected[place] = torch.tensor(value, dtype=expected.dtype)
            worst = max(worst, estimate.error / max(abs(float(flat[place].abs())), 1e-300))
    expected = expected.reshape(got.shape)
    known = torch.isfinite(expected)
    wrong = deviating(subject, position, start.got, expected) & known
    size = max(scale(torch.nan_to_num(expected)), 1e-300)
    if not bool(wrong.any()):
        reason = "the slopes along random directions deviate, those of single elements do not"
        return replace(start, verdict="unknown", reason=reason, kink=True, oracle="differences")
    return replace(start, verdict="wrong", expected=expected, wrong=wrong, oracle="differences", error=worst / size)


def _element(
    subject: Subject, position: int, place: int, flat: torch.Tensor, got: torch.Tensor
) -> tuple[Estimate, complex | float]:
    """One element of the derivative (two slopes, along the real and the imaginary axis, for a complex
    one)."""
    unit = torch.zeros_like(flat)
    size = max(float(flat[place].abs()), 1e-12)
    unit[place] = size
    estimate = base_slope(subject, position, unit.reshape(got.shape), got)
    if not got.is_complex():
        return estimate, estimate.value / size
    other = base_slope(subject, position, (unit * 1j).reshape(got.shape), got)
    return estimate, complex(estimate.value / size, other.value / size)


def _suspects(subject: Subject, start: Judgement, direction: torch.Tensor) -> list[int]:
    """Elements found wrong by halving the direction, and a sample of the others."""
    got, position = torch.nan_to_num(start.got, 0.0, 0.0, 0.0), start.position
    count = direction.numel()
    found: list[int] = []
    ranges = [(0, count)]
    evaluations = 0
    while ranges and len(found) < 8 and evaluations < 64:
        low, high = ranges.pop()
        if high - low == 1:
            found.append(low)
            continue
        middle = (low + high) // 2
        for part in ((low, middle), (middle, high)):
            restricted = torch.zeros_like(direction).reshape(-1)
            restricted[part[0] : part[1]] = direction.reshape(-1)[part[0] : part[1]]
            restricted = restricted.reshape(direction.shape)
            evaluations += 1
            if refutes(subject, base_slope(subject, position, restricted, got), got, restricted):
                ranges.append(part)
    sample = torch.linspace(0, count - 1, SAMPLE).long().tolist()
    return sorted({*found, *sample})
