"""Asks: does `backward` itself return one gradient for each input, of its shape and dtype?

The engine repairs some of this in silence (it sums a gradient that is too large and casts one of another
dtype), so the question is put to what `backward` returned. Cannot see: a callable without a Function, whose
gradients are the engine's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from gradsmith.check.deliberate import sort_out
from gradsmith.check.finding import Finding
from gradsmith.check.findings import finding
from gradsmith.check.isolation import Raised
from gradsmith.check.judge import judge
from gradsmith.check.passes import Raw
from gradsmith.check.subject import Subject

CODES = ("gradient-count", "gradient-shape", "gradient-dtype")


def check(subject: Subject) -> Iterator[Finding]:
    failed = subject.failure is not None
    raw = subject.base.raw[0] if subject.base.raw else None
    if raw is None:
        return
    count = _count(subject, raw)
    if count is not None:
        yield count
        return
    for position, value in enumerate(subject.inputs):
        grad = raw.returned[position] if position < len(raw.returned) else None
        if not isinstance(value, torch.Tensor) or not isinstance(grad, torch.Tensor):
            continue
        if not subject.needs[position]:
            continue
        if grad.shape != value.shape:
            yield _shape(subject, position, grad, repaired=not failed)
        elif grad.dtype != value.dtype and not (grad.is_complex() and not value.is_complex()):
            yield _dtype(subject, position, grad)


def explains_failure(subject: Subject) -> bool:
    """Whether the engine refused what `backward` returned, and one of the findings here says why."""
    if subject.failure is None or subject.failure.stage != "backward" or not subject.base.raw:
        return False
    raw = subject.base.raw[0]
    return _count(subject, raw) is not None or any(
        isinstance(grad, torch.Tensor) and isinstance(value, torch.Tensor) and grad.shape != value.shape
        for grad, value in zip(raw.returned, subject.inputs, strict=False)
    )


def wrong_shape(subject: Subject, position: int) -> bool:
    """Whether `backward` returned another shape than the argument's; then that is the fault to name."""
    if not subject.base.raw:
        return False
    returned, value = subject.base.raw[0].returned, subject.inputs[position]
    grad = returned[position] if position < len(returned) else None
    return isinstance(grad, torch.Tensor) and grad.shape != value.shape


def _count(subject: Subject, raw: Raw) -> Finding | None:
    expected, got = len(subject.inputs), len(raw.returned)
    surplus = [grad for grad in raw.returned[expected:] if grad is not None]
    if got < expected or surplus:
        return finding(
            subject,
            "gradient-count",
            None,
            f"backward returns {got} gradient{'s' * (got != 1)} for the {expected} "
            f"argument{'s' * (expected != 1)} of forward ({', '.join(subject.case.argument_names)})",
            evidence={"returned": got, "expected": expected},
            advice="return one value for each argument of forward, in its order; None for those without one",
        )
    for position, (value, grad) in enumerate(zip(subject.inputs, raw.returned, strict=False)):
        if grad is not None and not isinstance(value, torch.Tensor):
            name = subject.argument(position)
            return finding(
                subject,
                "gradient-count",
                name,
                f"backward returns a gradient for `{name}`, which is {_kind(value)} and not a tensor",
                evidence={"position": position, "argument_is": _kind(value)},
                advice=f"return None for `{name}`; are the gradients in the order of the arguments?",
            )
    return None


def _kind(value: Any) -> str:
    return "None" if value is None else f"of type {type(value).__name__}"


def _shape(subject: Subject, position: int, grad: torch.Tensor, *, repaired: bool) -> Finding:
    value, name = subject.inputs[position], subject.argument(position)
    outcome, harmless = _repair(subject, position) if repaired else ("the engine refuses it", False)
    return finding(
        subject,
        "gradient-shape",
        name,
        f"backward returns a gradient of shape {list(grad.shape)} for `{name}` of shape {list(value.shape)}; {outcome}",
        severity="warning" if harmless else "error",
        evidence={"got": list(grad.shape), "expected": list(value.shape)},
        advice=_shape_advice(grad, value, name),
    )


def _repair(subject: Subject, position: int) -> tuple[str, bool]:
    """What the engine's sum over the surplus makes of a gradient, and whether no harm is done."""
    try:
        if judge(subject, position).verdict == "right":
            return "the engine sums it to the right shape and value", True
        if sort_out(subject)[0] is not None:
            return "the engine sums it to the right shape", True
    except Raised:
        pass
    return "the engine makes something of it that is not the derivative", False


def _shape_advice(grad: torch.Tensor, value: torch.Tensor, name: str) -> str:
    if grad.numel() == value.numel():
        if grad.dim() == 2 and tuple(grad.shape) == tuple(value.shape[::-1]):
            return f"transpose the gradient for `{name}`"
        return f"give the gradient for `{name}` `{name}`'s shape; squeeze() drops every dimension of size 1"
    if grad.numel() > value.numel():
        return f"sum the gradient for `{name}` over the dimensions along which `{name}` was broadcast"
    return f"return a gradient for every element of `{name}`"


def _dtype(subject: Subject, position: int, grad: torch.Tensor) -> Finding:
    value, name = subject.inputs[position], subject.argument(position)
    return finding(
        subject,
        "gradient-dtype",
        name,
        f"backward returns a gradient of dtype {_short(grad)} for `{name}` of dtype {_short(value)}; "
        "the engine casts it, its precision is lost",
        severity="warning",
        evidence={"got": _short(grad), "expected": _short(value)},
        advice=f"compute and return the gradient for `{name}` in {name}.dtype",
    )


def _short(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
