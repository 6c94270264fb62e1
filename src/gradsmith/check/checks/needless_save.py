"""Asks: is every saved tensor needed?

Each saved tensor is handed back with other values: where no gradient notices, it was saved for nothing. Two
saved copies of the same values are one too many. Cannot see: what could be saved smaller, or is needed for
some gradients only.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import torch

from gradsmith.check.compare import same_values
from gradsmith.check.finding import Finding
from gradsmith.check.findings import finding
from gradsmith.check.isolation import Raised
from gradsmith.check.judge import jittered
from gradsmith.check.measured import saved
from gradsmith.check.passes import Pass
from gradsmith.check.subject import Subject
from gradsmith.check.tree import is_float

CODES = ("needless-save",)


def check(subject: Subject) -> Iterator[Finding]:
    if subject.case.function_class is None:
        return
    tensors, run = _saved(subject)
    for tensor in tensors:
        until = "the backward has run"  # the engine lets go of what save_for_backward keeps, and of nothing else
        subject.measured.append(saved(subject.case.name, _name(subject, run, tensor), tensor, until))
    needless = [
        (place, tensor)
        for place, tensor in enumerate(tensors)
        if tensor.numel() > 1 and _unused(subject, place, tensor)
    ]
    if needless:
        size = sum(tensor.numel() * tensor.element_size() for _, tensor in needless)
        what = ", ".join(_name(subject, run, tensor) for _, tensor in needless)
        yield _report(subject, f"{what}, saved for backward and not used there", size)
        return
    for first, _ in _copies(subject, tensors, run):
        tensor = tensors[first]
        size = tensor.numel() * tensor.element_size()
        yield _report(subject, f"a copy of {_name(subject, run, tensor)}, saved beside it", size)
        return


def _saved(subject: Subject) -> tuple[list[torch.Tensor], Pass]:
    tensors: list[torch.Tensor] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        tensors.append(tensor)
        return tensor.detach()

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run = subject.forward()
    return tensors, run


def _unused(subject: Subject, place: int, tensor: torch.Tensor) -> bool:
    """Whether the gradients are the same with other values in the place of the saved ones."""
    others = [change(tensor.detach()) for change in _changes(tensor)]
    others = [other for other in others if not torch.equal(other, tensor)]
    return bool(others) and all(_blind_to(subject, place, other) for other in others)


def _changes(tensor: torch.Tensor) -> list[Any]:
    if is_float(tensor):
        return [lambda t: torch.full_like(t, torch.nan), lambda t: -1.7 * t - 0.3]
    if tensor.dtype == torch.bool:
        return [torch.logical_not]
    return [torch.zeros_like, torch.ones_like, lambda t: t.flip(0) if t.dim() else t]


def _blind_to(subject: Subject, place: int, other: torch.Tensor) -> bool:
    counter = iter(range(1_000_000))

    def pack(tensor: torch.Tensor) -> tuple[int, torch.Tensor]:
        return next(counter), tensor.detach()

    def unpack(packed: tuple[int, torch.Tensor]) -> torch.Tensor:
        return other if packed[0] == place else packed[1]

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        run = subject.forward()
    try:
        grads = subject.backward(run, subject.base_upstream)
    except Raised:
        return False
    return same_values(subject.base_grads, grads, subject.tolerance.exact)


def _copies(subject: Subject, tensors: list[torch.Tensor], run: Pass) -> list[tuple[int, int]]:
    """Pairs that hold the same, here and at other inputs: the norms of two vectors that happen to be equal do not."""
    found = _equal_pairs(tensors, run)
    if not found:
        return []
    try:
        others = _equal_pairs(*_saved(subject.at(jittered(subject, 5), "moved by a few per cent")))
    except Raised:
        return found
    return [pair for pair in found if pair in others]


def _equal_pairs(tensors: list[torch.Tensor], run: Pass) -> list[tuple[int, int]]:
    pairs = itertools.combinations(range(len(tensors)), 2)
    return [
        (i, j)
        for i, j in pairs
        if _equal(tensors[i], tensors[j]) and not (_is_input(run, tensors[i]) and _is_input(run, tensors[j]))
    ]


def _equal(tensor: torch.Tensor, other: torch.Tensor) -> bool:
    return (
        tensor.numel() > 1
        and tensor.data_ptr() != other.data_ptr()
        and tensor.shape == other.shape
        and tensor.dtype == other.dtype
        and torch.equal(tensor.detach(), other.detach())
    )


def _is_input(run: Pass, tensor: torch.Tensor) -> bool:
    """Two arguments that happen to be equal are not copies of each other."""
    return any(isinstance(value, torch.Tensor) and value.data_ptr() == tensor.data_ptr() for value in run.given)


def _name(subject: Subject, run: Pass, tensor: torch.Tensor) -> str:
    for position, value in enumerate(run.given):
        if isinstance(value, torch.Tensor) and value.data_ptr() == tensor.data_ptr():
            return f"`{subject.argument(position)}`"
    for out in run.outputs:
        if isinstance(out, torch.Tensor) and out.data_ptr() == tensor.data_ptr():
            return "the output"
    return f"an intermediate of shape {list(tensor.shape)}"


def _report(subject: Subject, what: str, size: int) -> Finding:
    return finding(
        subject,
        "needless-save",
        None,
        f"{size} bytes are kept for nothing: {what}",
        evidence={"bytes": size},
        advice="save only what backward reads",
        where="forward",
    )
