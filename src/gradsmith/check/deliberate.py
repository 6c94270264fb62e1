"""Gradients that are another on purpose: surrogates and gradient modifiers, told apart from mistakes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch

from gradsmith.check.compare import scale
from gradsmith.check.finding import Finding
from gradsmith.check.findings import finding
from gradsmith.check.inputs import moved
from gradsmith.check.isolation import Raised
from gradsmith.check.judge import Judgement, judge
from gradsmith.check.oracle import differentiable_places, random_direction
from gradsmith.check.subject import Subject


def sort_out(subject: Subject) -> tuple[Finding | None, list[Judgement]]:
    """The note on what is meant, if anything is, and the judgements of what is a mistake."""
    judgements = [judge(subject, position) for position in subject.arguments]
    suspicious = [judgement for judgement in judgements if judgement.verdict in ("wrong", "constant")]
    if not suspicious or subject.case.reference is not None:
        return None, suspicious
    note = (
        modifier(subject, suspicious)
        or surrogate(subject, judgements)
        or choice(subject, suspicious)
        or saturated(subject, suspicious)
    )
    return note, [] if note is not None else suspicious


def modifier(subject: Subject, suspicious: Sequence[Judgement]) -> Finding | None:
    """An identity forward with another gradient: reversal, scaling, clipping."""
    if not _is_identity(subject):
        return None
    names = ", ".join(f"`{subject.argument(j.position)}`" for j in suspicious)
    return finding(
        subject,
        "gradient-modifier",
        subject.argument(suspicious[0].position),
        f"forward returns its input unchanged and backward changes the gradient of {names}: taken as meant",
        advice="declare it (a reference= whose gradient it is) and it is checked against the declaration",
    )


def _is_identity(subject: Subject) -> bool:
    """Whether each output is one of the inputs, also at other values: `x * x` is its input where that is one, and a
    ReLU where it is positive."""
    values = {position: subject.inputs[position].detach() for position in subject.arguments}
    if not _hands_through(subject.base.outputs, values):
        return False
    for factor in (-1.0, 1.37, 50.0):
        moved = {position: value * factor for position, value in values.items()}
        inputs = tuple(moved.get(position, value) for position, value in enumerate(subject.inputs))
        try:
            outputs = subject.forward(inputs).outputs
        except Raised:
            continue  # out of its domain
        if not _hands_through(outputs, moved):
            return False
    return True


def _hands_through(outputs: Sequence[object], inputs: Mapping[int, torch.Tensor]) -> bool:
    tracked = [out.detach() for out in outputs if isinstance(out, torch.Tensor) and out.requires_grad]
    return bool(tracked) and all(any(_equal(out, value) for value in inputs.values()) for out in tracked)


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


def choice(subject: Subject, suspicious: Sequence[Judgement]) -> Finding | None:
    """Several outputs, some of them constant almost everywhere (a code, a one-hot): a surrogate through those,
    where what comes through the others is right."""
    flat = [is_flat(subject, place) for place in differentiable_places(subject)]
    if all(flat) or not any(flat):
        return None
    rest = subject.at(subject.inputs, subject.label)
    pairs = zip(subject.base_upstream, flat, strict=True)
    rest.base_upstream = tuple(torch.zeros_like(up) if still else up for up, still in pairs)
    if any(judge(rest, judgement.position).verdict != "right" for judgement in suspicious):
        return None
    names = ", ".join(f"`{subject.argument(j.position)}`" for j in suspicious)
    return finding(
        subject,
        "surrogate-gradient",
        subject.argument(suspicious[0].position),
        f"an output is constant almost everywhere and passes a gradient on to {names}: a surrogate; what comes "
        "through the other outputs is right",
        advice="declare it (gs.surrogate, gs.straight_through, reference=), and it is checked against that",
    )


def saturated(subject: Subject, suspicious: Sequence[Judgement]) -> Finding | None:
    """A clamp that passes a gradient on where it clamps. A forgotten mask looks the same, so the author's own
    words decide."""
    if not calls_itself_a_surrogate(subject.case.function_class):
        return None
    for judgement in suspicious:
        wrong, expected = judgement.wrong, judgement.expected
        if wrong is None or expected is None or bool(expected[wrong].any()):
            return None
    names = ", ".join(f"`{subject.argument(j.position)}`" for j in suspicious)
    return finding(
        subject,
        "surrogate-gradient",
        subject.argument(suspicious[0].position),
        f"backward passes a gradient on to elements of {names} in which the forward is constant, and elsewhere the "
        "derivative: a surrogate, as its author says",
        advice="declare it (gs.surrogate, gs.straight_through, reference=), and it is checked against that",
    )


_WORDS = re.compile(r"(?i:straight[-_ ]?through|surrogate)|(?<![A-Z])(STE|Ste)(?![a-z])|(?<![a-z])ste(?![a-z])")


def calls_itself_a_surrogate(function_class: type | None) -> bool:
    """Whether the class says in its name or documentation that its gradient is a surrogate."""
    return function_class is not None and bool(
        _WORDS.search(function_class.__name__) or _WORDS.search(function_class.__doc__ or "")
    )


def is_flat(subject: Subject, place: int) -> bool:
    """Whether small steps in all arguments at once leave an output as it is."""
    needs = tuple(False for _ in subject.inputs)
    for step in (1e-4, -1e-4, 2e-5):
        nearby = moved(subject.inputs, subject.arguments, lambda _, x, step=step: x + step * random_direction(x, 13))  # type: ignore[misc]
        try:
            after = subject.forward(nearby, needs=needs).outputs[place]
        except (Raised, IndexError):
            return False
        if not _equal(subject.base.outputs[place].detach(), after):
            return False
    return True


def depends(subject: Subject, position: int) -> bool:
    """Whether large changes of the argument change the output."""
    value = subject.inputs[position]
    size = scale(value) + 1.0
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
