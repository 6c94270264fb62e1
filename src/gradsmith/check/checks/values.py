"""Asks: is the gradient also right, and a number, at other values than those given?

Zeros, ties, large, small and negated values. At a kink any value between the one-sided slopes is right.
Larger and smaller values are tried only where the forward's own autodiff is known to be its derivative:
elsewhere they may lie outside what the forward is made for. Cannot see: a value that matters and is not
among these.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch

from gradsmith.check.checks.gradient import evidence
from gradsmith.check.compare import scale
from gradsmith.check.deliberate import calls_itself_a_surrogate, saturated, sort_out
from gradsmith.check.diagnose import diagnose
from gradsmith.check.difference import Estimate
from gradsmith.check.finding import Finding
from gradsmith.check.findings import finding
from gradsmith.check.judge import judge
from gradsmith.check.oracle import operations, slope, step_sizes
from gradsmith.check.subject import Subject
from gradsmith.check.variations import labelled, reduced

CLOSED_FORM = 40  # a forward of more operations than this is taken for an iteration
CODES = ("gradient-nonfinite", "gradient-wrong", "gradient-sign", "gradient-scale", "gradient-missing")


def check(subject: Subject) -> Iterator[Finding]:
    if sort_out(subject)[0] is not None:
        subject.refused.append("other values: a gradient that is no derivative on purpose")
        return
    subject = reduced(subject)
    for position in subject.arguments:
        judgement = judge(subject, position)
        if judgement.verdict != "right" or judgement.oracle == "reference" or subject.inputs[position].numel() == 0:
            continue
        found = _at_special_points(subject, position)
        if found is None and judgement.oracle == "replay":
            found = _at_other_sizes(subject, position)
        if found is not None:
            yield found


def _put(subject: Subject, position: int, value: torch.Tensor) -> tuple[Any, ...]:
    inputs = list(subject.inputs)
    inputs[position] = value
    return tuple(inputs)


def _usable(varied: Subject) -> bool:
    """Whether forward and backward run there and the forward gives numbers."""
    if varied.failure is not None:
        return False
    outputs = varied.base.differentiable
    return bool(outputs) and all(bool(torch.isfinite(out).all()) for out in outputs)


def _special(value: torch.Tensor) -> Iterator[tuple[str, torch.Tensor, list[int]]]:
    """Zero in one element and in all, two elements that tie: the values, and which elements to look at."""
    flat = value.detach().reshape(-1)
    one = flat.clone()
    one[0] = 0
    yield "its first element 0", one.reshape(value.shape), [0]
    yield "all elements 0", torch.zeros_like(value), [0]
    if flat.numel() > 1 and not value.is_complex():
        tied = flat.clone()
        tied[0] = tied[1] = flat.max()
        yield "two equal elements", tied.reshape(value.shape), [0, 1]


def _at_special_points(subject: Subject, position: int) -> Finding | None:
    name = subject.argument(position)
    for label, value, places in _special(subject.inputs[position]):
        varied = subject.at(_put(subject, position, value), labelled(subject, f"`{name}` with {label}"))
        if not _usable(varied):
            continue
        subject.variations.append(varied.label)
        grad = varied.base_grads[position]
        if grad is None:
            continue
        for place in places:
            found = _outside_slopes(varied, position, place, grad)
            if found is not None:
                return found
    return None


def _outside_slopes(varied: Subject, position: int, place: int, grad: torch.Tensor) -> Finding | None:
    """A finding where the gradient of one element is not a number, or not between the one-sided slopes."""
    if grad.is_complex():
        return None
    value = varied.inputs[position]
    size = float(step_sizes(value).reshape(-1)[place])
    unit = torch.zeros_like(value).reshape(-1)
    unit[place] = size
    unit = unit.reshape(value.shape)
    accuracy = 1e-5 * scale(torch.nan_to_num(grad)) * size
    coarse = slope(varied, position, unit, varied.base_upstream, accuracy=accuracy)
    fine = slope(varied, position, unit, varied.base_upstream, accuracy=accuracy, stretch=0.02)
    got = float(grad.detach().reshape(-1)[place]) * size
    if not _settled(coarse, fine) and (math.isfinite(got) or not _smooth(coarse, fine)):
        return None
    low, high = sorted((fine.left, fine.right))
    width = max(abs(low), abs(high), scale(torch.nan_to_num(grad)) * size * varied.tolerance.floor)
    margin = 0.02 * width + 3 * fine.error * (high - low < 1e-3 * width)
    if low - margin <= got <= high + margin:
        return None
    if low == high == 0 and math.isfinite(got) and calls_itself_a_surrogate(varied.case.function_class):
        return None
    name, index = varied.argument(position), [int(i) for i in torch.unravel_index(torch.tensor(place), value.shape)]
    expected = (
        f"between {low / size:.6g} and {high / size:.6g}" if high - low > 1e-3 * width else f"{fine.value / size:.6g}"
    )
    return finding(
        varied,
        "gradient-wrong" if math.isfinite(got) else "gradient-nonfinite",
        name,
        f"with {varied.label}, backward returns {got / size:.6g} for element {index}, where the slope is {expected}",
        evidence={"element": index, "got": got / size, "expected": [low / size, high / size], "oracle": "differences"},
        advice="at a kink return a value between the two slopes; against 0 * inf use torch.where on the input",
    )


def _settled(coarse: Estimate, fine: Estimate) -> bool:
    """Whether two ladders find the same one-sided slopes: a kink or a smooth point, not a cusp or a pole."""
    if not (coarse.usable and fine.usable):
        return False
    size = max(abs(coarse.left), abs(coarse.right), abs(fine.left), abs(fine.right))
    if size == 0.0:
        return True
    return abs(coarse.left - fine.left) < 0.01 * size and abs(coarse.right - fine.right) < 0.01 * size


def _smooth(coarse: Estimate, fine: Estimate) -> bool:
    """Whether the one-sided slopes meet as the steps shrink: no kink, though the slope itself may be zero."""
    if not (coarse.usable and fine.usable):
        return False
    return abs(fine.right - fine.left) <= 0.1 * abs(coarse.right - coarse.left)


def _at_other_sizes(subject: Subject, position: int) -> Finding | None:
    value, name = subject.inputs[position].detach(), subject.argument(position)
    iterative = operations(subject) > CLOSED_FORM
    variations = (("negated", -value), ("10 times as large", 10 * value), ("10000 times as large", 10_000 * value),
                  ("a thousandth as large", value / 1000))  # fmt: skip
    for label, moved in variations:
        varied = subject.at(_put(subject, position, moved), labelled(subject, f"`{name}` {label}"))
        if not _usable(varied):
            continue
        subject.variations.append(varied.label)
        judgement = judge(varied, position)
        if judgement.verdict != "wrong" or judgement.label != varied.label or judgement.oracle != "replay":
            continue  # far out, differences that contradict the replay are themselves astray
        if saturated(varied, [judgement]) is not None:
            continue  # a clamp that passes the gradient on as its author says, though nothing was clamped as given
        if iterative and bool(torch.isfinite(judgement.got).all()):
            continue  # out there it may not have converged, and backward rests on that it has
        others = [judge(varied, other) for other in varied.arguments]
        diagnosis = diagnose(judgement, others)
        code = diagnosis.code if diagnosis.code in CODES else "gradient-wrong"
        return finding(
            varied,
            code,
            name,
            f"with {varied.label}: {diagnosis.message}",
            evidence={**evidence(judgement), **diagnosis.evidence},
            advice=diagnosis.advice,
        )
    return None
