"""Gradients that are another on purpose: surrogates and gradient modifiers, told apart from mistakes."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from gradsmith.check.finding import Finding
from gradsmith.check.findings import finding
from gradsmith.check.isolation import Raised
from gradsmith.check.judge import Judgement, judge
from gradsmith.check.subject import Subject


def sort_out(subject: Subject) -> tuple[Finding | None, list[Judgement]]:
    """The note on what is meant, if anything is, and the judgements of what is a mistake."""
    judgements = [judge(subject, position) for position in subject.arguments]
    suspicious = [judgement for judgement in judgements if judgement.verdict in ("wrong", "constant")]
    if not suspicious or subject.case.reference is not None:
        return None, suspicious
    note = modifier(subject, suspicious) or surrogate(subject, judgements)
    return note, [] if note is not None else suspicious


def modifier(subject: Subject, suspicious: Sequence[Judgement]) -> Finding | None:
    """An identity forward with another gradient: reversal, scaling, clipping."""
    outputs = [out.detach() for out in subject.base.differentiable]
    inputs = [subject.inputs[position] for position in subject.arguments]
    if not outputs or not all(any(_equal(out, value) for value in inputs) for out in outputs):
        return None
    names = ", ".join(f"`{subject.argument(j.position)}`" for j in suspicious)
    return finding(
        subject,
        "gradient-modifier",
        subject.argument(suspicious[0].position),
        f"forward returns its input unchanged and backward changes the gradient of {names}: taken as meant",
        advice="declare it (a reference= whose gradient it is) and it is checked against the declaration",
    )


def surrogate(subject: Subject, judgements: Sequence[Judgement]) -> Finding | None:
    """A forward that is constant almost everywhere with a backward that is not: straight-through, spike,
    quantiser.

    An argument on which the output depends nowhere is no surrogate: there a gradient is a mistake.
    """
    flat = [j for j in judgements if j.verdict == "constant" and depends(subject, j.position)]
    if not flat:
        return None
    names = ", ".join(f"`{subject.argument(j.position)}`" for j in flat)
    also = [subject.argument(j.position) for j in judgements if j.verdict == "wrong"]
    more = f"; the gradients of {', '.join(f'`{name}`' for name in also)} were not judged either" if also else ""
    return finding(
        subject,
        "surrogate-gradient",
        subject.argument(flat[0].position),
        f"forward is constant almost everywhere in {names} and backward is not zero: a surrogate{more}",
        advice="declare it (gs.surrogate, gs.straight_through, reference=), and it is checked against that",
    )


def depends(subject: Subject, position: int) -> bool:
    """Whether large changes of the argument change the output."""
    value = subject.inputs[position]
    size = float(value.abs().max()) + 1.0
    before = subject.base.outputs
    for factor, offset in ((-1.0, 0.0), (1.0, 3 * size), (1.0, -3 * size), (0.0, 0.3), (7.0, 0.5)):
        moved = list(subject.inputs)
        moved[position] = value * factor + offset
        try:
            after = subject.forward(tuple(moved), needs=tuple(False for _ in moved)).outputs
        except Raised:
            continue
        for old, new in zip(before, after, strict=False):
            if isinstance(old, torch.Tensor) and isinstance(new, torch.Tensor) and not _equal(old.detach(), new):
                return True
    return False


def _equal(left: torch.Tensor, right: torch.Tensor) -> bool:
    return left.shape == right.shape and left.dtype == right.dtype and torch.equal(left, right.detach())
