"""What the diagnosis looks at and looks for: known elements, one ratio, named factors, tensors as factors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from gradsmith.check.compare import scale
from gradsmith.check.judge import Judgement
from gradsmith.check.subject import Subject

CLOSE = 2e-3  # two values this near, relative to their scale, are the same for the purpose of a name


@dataclass(frozen=True)
class Diagnosis:
    """The code, what is wrong in a sentence, and what to write instead."""

    code: str
    message: str
    advice: str
    evidence: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Wrong:
    """One wrong gradient, with what the tests look at: only elements whose truth is known."""

    subject: Subject
    judgement: Judgement
    others: Sequence[Judgement]
    name: str
    known: torch.Tensor
    got: torch.Tensor  # the known elements, flat
    expected: torch.Tensor

    @property
    def complete(self) -> bool:
        return bool(self.known.all())


def same(left: torch.Tensor, right: torch.Tensor, close: float = CLOSE) -> bool:
    """Equal for the purpose of a name."""
    if left.shape != right.shape or left.numel() == 0:
        return False
    size = max(scale(right), 1e-300)
    return bool(((left - right).abs() <= close * right.abs() + 0.005 * close * size).all())


def ratio_of(got: torch.Tensor, expected: torch.Tensor, close: float = CLOSE) -> complex | float | None:
    """The one number that `got` is of `expected`, if there is one."""
    weight = (expected.conj() * expected).real.sum()
    if float(weight) == 0.0:
        return None
    ratio = (expected.conj() * got).sum() / weight
    if not same(got, ratio * expected, close):
        return None
    value: complex | float = ratio.item()
    return value if isinstance(value, float) or abs(value.imag) > CLOSE * abs(value) else value.real


def name_factor(case: Wrong, ratio: complex | float) -> str:
    """What the author may have forgotten: a size, a scalar argument, a half."""
    if isinstance(ratio, complex):
        return ""
    subject = case.subject
    sizes: list[tuple[float, str]] = []
    for i, value in enumerate(subject.inputs):
        if isinstance(value, int | float) and not isinstance(value, bool):
            sizes.append((float(value), f"the argument `{subject.argument(i)}` = {value}"))
    named = [(subject.argument(i), v) for i, v in enumerate(subject.inputs) if isinstance(v, torch.Tensor)]
    named += [("the output", out) for out in subject.base.differentiable]
    for name, tensor in named:
        label = name if name.startswith("the ") else f"`{name}`"
        sizes += [
            (
                float(size),
                f"the batch size {size}" if dim == 0 and tensor.dim() > 1 else f"the size {size} of {label}",
            )
            for dim, size in enumerate(tensor.shape)
        ]
        sizes.append((float(tensor.numel()), f"the {tensor.numel()} elements of {label}"))
    for size, label in sizes:
        if size in (0.0, 1.0):
            continue
        for factor, text in (
            (size, label),
            (1 / size, f"one over {label}"),
            (size**2, f"the square of {label}"),
        ):
            if abs(ratio - factor) < CLOSE * abs(factor):
                return text
    for factor, text in (
        (2.0, "a factor 2"),
        (0.5, "a factor 1/2"),
        (-2.0, "a factor -2"),
        (-0.5, "a factor -1/2"),
    ):
        if abs(ratio - factor) < CLOSE * abs(factor):
            return text
    return _name_by_value(ratio, [(name, value) for name, value in named if value.numel() == 1])


def _name_by_value(ratio: float, numbers: list[tuple[str, torch.Tensor]]) -> str:
    """Which of the tensors of one element the ratio is, or is one over; closer than chance would have it."""
    for name, tensor in numbers:
        value = abs(float(tensor.detach().real))
        label = name if name.startswith("the ") else f"`{name}`"
        for factor, text in ((value, label), (1 / value if value else 0.0, f"one over {label}")):
            if factor and abs(abs(ratio) - factor) < 0.01 * CLOSE * factor:
                return text
    return ""


def candidates_of(case: Wrong) -> Iterator[tuple[str, torch.Tensor]]:
    """Tensors of the shape of the gradient that a formula may have too often or not at all."""
    shape = case.judgement.got.shape
    subject = case.subject
    named = [(f"`{subject.argument(i)}`", value) for i, value in enumerate(subject.inputs) if _is_number_tensor(value)]
    named += [("the output", out.detach()) for out in subject.base.differentiable]
    named += [("grad_output", up) for up in subject.base_upstream]
    for name, tensor in named:
        try:
            full = tensor.to(case.got.dtype).expand(shape)[case.known]
        except RuntimeError:
            continue
        yield name, full


def _is_number_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.dtype != torch.bool and value.numel() > 0
