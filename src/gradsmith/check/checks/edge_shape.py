"""Asks: does the backward work for every size and rank that the forward accepts?

Sizes become 1 and one more, the batch empty; leading dimensions are added and left out. What the forward
refuses is counted, not reported. Cannot see: sizes far from the given ones (tile sizes, integer overflow).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from gradsmith.check.checks.returned import wrong_shape
from gradsmith.check.deliberate import calls_itself_a_surrogate, depends, sort_out
from gradsmith.check.finding import Finding
from gradsmith.check.findings import finding
from gradsmith.check.isolation import Raised
from gradsmith.check.judge import judge
from gradsmith.check.subject import Subject
from gradsmith.check.variations import labelled, reduced, reranked, resized

CODES = ("edge-shape",)


@dataclass(frozen=True)
class Broken:
    """One variation in which the backward fails or is wrong."""

    label: str
    argument: str | None
    what: str
    subject: Subject
    raised: Raised | None = None


def check(subject: Subject) -> Iterator[Finding]:
    broken: dict[Any, list[Broken]] = {}
    refused = 0
    meant, mistakes = sort_out(subject)
    mistaken = {subject.argument(judgement.position) for judgement in mistakes}
    # A surrogate agrees with the slope by accident: a clamp where it did not clamp.
    surrogate = meant is not None or calls_itself_a_surrogate(subject.case.function_class)
    judged = () if surrogate else subject.arguments
    right = {position for position in judged if judge(subject, position).verdict == "right"}
    start = reduced(subject)
    for variation, inputs in (*resized(start), *reranked(start)):
        label = labelled(start, variation)
        varied = subject.at(inputs, label)
        if not varied.base_runs or not _sound(varied):
            refused += 1
            continue
        subject.variations.append(label)
        for fault in _faults(varied, right):
            if mistaken and (fault.argument is None or fault.argument in mistaken):
                subject.refused.append(f"{label}: {fault.what}, which may follow from the wrong gradient")
                continue
            broken.setdefault((fault.argument, fault.raised is None), []).append(fault)
    if refused:
        subject.variations.append(f"{refused} shapes that the forward refuses, left out")
    for faults in broken.values():
        yield _report(faults)


def _sound(varied: Subject) -> bool:
    """Whether the forward gives numbers: an average over nothing is NaN, and proves nothing."""
    outputs = varied.base.differentiable
    return bool(outputs) and all(bool(torch.isfinite(out).all()) for out in outputs)


def _faults(varied: Subject, right: set[int]) -> Iterator[Broken]:
    failure = varied.failure
    if failure is not None:
        named = next((i for i in varied.arguments if wrong_shape(varied, i)), None)
        if named is None:
            yield Broken(varied.label, None, f"backward raises {_exception(failure)}", varied, failure)
            return
        if not depends(varied, named):
            return  # the forward does not look at it, so that it takes it says nothing
        grad, value = varied.base.raw[0].returned[named], varied.inputs[named]
        name = varied.argument(named)
        what = f"backward returns shape {list(grad.shape)} for `{name}` of shape {list(value.shape)}"
        yield Broken(varied.label, name, what, varied)
        return
    for position in right & set(varied.arguments):
        if judge(varied, position).verdict == "wrong":
            name = varied.argument(position)
            yield Broken(varied.label, name, f"the gradient for `{name}` is wrong", varied)


def _exception(raised: Raised) -> str:
    text = str(raised.error).strip().splitlines() or [""]
    return f"{type(raised.error).__name__}: {text[0]}"


def _report(faults: list[Broken]) -> Finding:
    first = faults[0]
    shapes = {
        name: list(value.shape)
        for name, value in zip(first.subject.case.argument_names, first.subject.inputs, strict=True)
        if isinstance(value, torch.Tensor)
    }
    # An input without its batch dimension is often accepted by accident; refusing it aloud is no harm done.
    accidental = first.subject.failure is not None and "left out" in first.label
    return finding(
        first.subject,
        "edge-shape",
        first.argument,
        f"with {first.label} the forward works and {first.what}",
        evidence={"variations": [fault.label for fault in faults], "shapes": shapes},
        advice="write the backward for any size and rank: no squeeze(), no fixed dimensions, sums over "
        "exactly those that were broadcast",
        raised=first.raised,
        severity="warning" if accidental else "error",
    )
