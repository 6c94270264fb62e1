"""Asks: does autograd see every tensor that goes in and comes out?

It looks only at tensors that are arguments or outputs themselves: what is in a list, a dict or a nested
tuple is cut off without a word. Cannot see: tensors captured from outside `forward`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from gradsmith.check.finding import Finding
from gradsmith.check.findings import finding
from gradsmith.check.inputs import spread_like
from gradsmith.check.isolation import Raised
from gradsmith.check.oracle import inner, random_direction, size_of
from gradsmith.check.subject import Subject
from gradsmith.check.tree import is_float, leaves

CODES = ("input-untracked", "output-untracked", "output-not-differentiable")


def check(subject: Subject) -> Iterator[Finding]:
    if subject.case.function_class is None:
        return
    for position, value in enumerate(subject.case.inputs):
        hidden = [leaf for leaf in leaves(value) if is_float(leaf) and leaf.requires_grad]
        if not isinstance(value, torch.Tensor) and hidden:
            yield _input(subject, position, type(value).__name__)
    if not subject.arguments:
        return
    returned = subject.base.returned
    places = returned if isinstance(returned, tuple) else (returned,)
    for place, value in enumerate(places):
        untracked = [leaf for leaf in leaves(value) if is_float(leaf) and not leaf.requires_grad]
        if not isinstance(value, torch.Tensor) and untracked:
            yield _output(subject, place, type(value).__name__)
        elif is_float(value) and not value.requires_grad and _moves(subject, place):
            yield _marked(subject, place, len(places))


def _moves(subject: Subject, place: int) -> bool:
    """Whether the output at `place` changes smoothly with an input: twice the step, twice the change."""
    needs = tuple(False for _ in subject.inputs)
    step = 1e-4 if subject.dtype == torch.float64 else 1e-2
    for position in subject.arguments:
        direction = random_direction(subject.inputs[position], 11)
        changes = []
        for factor in (step, step / 2):
            moved = list(subject.inputs)
            moved[position] = moved[position].detach() + factor * direction
            try:
                out = subject.forward(tuple(moved), needs=needs).outputs[place]
            except (Raised, IndexError):
                return False
            before: Any = subject.base.outputs[place]
            if out.shape != before.shape:
                return False
            weights = spread_like(out, torch.Generator().manual_seed(5))
            changes.append(inner(weights, out.detach() - before.detach()) / factor)
        far, near = changes
        if abs(near) > 1000 * subject.tolerance.eps * size_of([weights], [before]) / step and abs(
            far - near
        ) < 0.1 * abs(near):
            return True
    return False


def _input(subject: Subject, position: int, kind: str) -> Finding:
    name = subject.argument(position)
    return finding(
        subject,
        "input-untracked",
        name,
        f"tensors that require a gradient are in the {kind} `{name}`, where autograd does not see them",
        evidence={"container": kind},
        advice="pass each tensor as an argument of its own: forward(ctx, *tensors)",
        where="forward",
        show="print('requires_grad:', {call})",
    )


def _output(subject: Subject, place: int, kind: str) -> Finding:
    return finding(
        subject,
        "output-untracked",
        None,
        f"forward returns tensors in a {kind}, where autograd does not see them: they carry no gradient",
        evidence={"output": place, "container": kind},
        advice="return a tensor or a flat tuple of tensors, and build the container around the call",
        where="forward",
        show="print('requires_grad:', {call})",
    )


def _marked(subject: Subject, place: int, count: int) -> Finding:
    which = f"output {place}" if count > 1 else "the output"
    return finding(
        subject,
        "output-not-differentiable",
        None,
        f"{which} changes smoothly with the inputs and is marked as not differentiable: its gradient is lost",
        evidence={"output": place},
        advice="do not mark it, and give its upstream gradient a term in backward",
        where="forward",
        show="print('requires_grad:', {call})",
    )
