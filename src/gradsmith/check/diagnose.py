"""Diagnosis: from a gradient and the right one to the name of the mistake.

The tests are ordered by how much they explain; the first that holds names the fault. Nothing here decides
*whether* a gradient is wrong: `judge` did.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from gradsmith.check.compare import scale
from gradsmith.check.describe import elements, number, ratio_text, where_wrong
from gradsmith.check.isolation import Raised
from gradsmith.check.judge import Judgement
from gradsmith.check.oracle import autodiff, replay_of
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
class _Wrong:
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


def diagnose(subject: Subject, judgement: Judgement, others: Sequence[Judgement]) -> Diagnosis:
    """Name the fault of one argument's gradient; `others` are the judgements of the other arguments."""
    assert judgement.expected is not None
    expected = judgement.expected.detach()
    known = torch.isfinite(expected)
    case = _Wrong(
        subject,
        judgement,
        others,
        subject.argument(judgement.position),
        known,
        judgement.got[known],
        expected[known],
    )
    for test in TESTS if not same(case.got, case.expected) else TESTS_OF_SMALL_ERRORS:
        found = test(case)
        if found is not None:
            return found
    return Diagnosis(
        "gradient-wrong",
        f"backward returns a wrong derivative for `{case.name}` in {elements(judgement.wrong)}",
        f"derive the gradient for `{case.name}` anew and compare it with autograd on a plain forward",
    )


def same(left: torch.Tensor, right: torch.Tensor, close: float = CLOSE) -> bool:
    """Equal for the purpose of a name."""
    if left.shape != right.shape or left.numel() == 0:
        return False
    size = max(scale(right), 1e-300)
    return bool(((left - right).abs() <= close * right.abs() + 0.005 * close * size).all())


def _nonfinite(case: _Wrong) -> Diagnosis | None:
    bad = ~torch.isfinite(case.judgement.got) & case.known
    if not bool(bad.any()):
        return None
    return Diagnosis(
        "gradient-nonfinite",
        f"backward returns NaN or infinity for `{case.name}` in {elements(bad)}; the derivative is finite",
        "find the division, log or root that meets zero there, and use torch.where before it, not after",
    )


def _missing(case: _Wrong) -> Diagnosis | None:
    if bool(case.got.abs().sum() > 0) and not case.judgement.missing:
        return None
    what = "None" if case.judgement.missing else "zero"
    return Diagnosis(
        "gradient-missing",
        f"backward returns {what} for `{case.name}`, whose derivative is not zero",
        f"return the gradient of `{case.name}`; None says that the output does not depend on it",
    )


def _ignores_scale(case: _Wrong) -> Diagnosis | None:
    """vjp(2 g) must be 2 vjp(g)."""
    doubled = _again(case, [2 * up for up in case.subject.base_upstream])
    if doubled is None or same(doubled, 2 * case.judgement.got):
        return None
    if same(doubled, case.judgement.got):
        what = "does not use the upstream gradient: doubling that changes nothing"
    else:
        what = "is not linear in the upstream gradient"
    return Diagnosis(
        "gradient-ignores-upstream",
        f"backward's gradient for `{case.name}` {what}",
        "multiply by the gradient that arrives: a backward computes grad_output times the derivative",
    )


def _again(case: _Wrong, upstream: list[torch.Tensor]) -> torch.Tensor | None:
    try:
        grad = case.subject.backward(case.subject.base, upstream, retain_graph=True)[case.judgement.position]
    except Raised:
        return None
    return None if grad is None else grad.detach()


def _conjugate(case: _Wrong) -> Diagnosis | None:
    if not case.got.is_complex() or not (same(case.got, case.expected.conj()) or _conjugate_under_real(case)):
        return None
    return Diagnosis(
        "gradient-conjugate",
        f"backward returns the complex conjugate of the gradient for `{case.name}`",
        "torch's convention: the gradient of a holomorphic f is grad_output * f'(z).conj()",
    )


def _conjugate_under_real(case: _Wrong) -> bool:
    """Whether a real upstream shows it; a complex one multiplies both, and they are no conjugates of each
    other."""
    subject, position = case.subject, case.judgement.position
    function = subject.case.reference or replay_of(subject.case)
    upstream = [up.real.to(up.dtype) for up in subject.base_upstream]
    got = _again(case, upstream)
    if function is None or got is None or case.judgement.oracle not in ("reference", "replay"):
        return False
    expected = autodiff(subject, function, upstream)[position]
    return expected is not None and same(got, expected.conj())


def _constant_ratio(case: _Wrong) -> Diagnosis | None:
    ratio = _ratio(case.got, case.expected)
    if ratio is not None and abs(ratio - 1) < 10 * CLOSE:
        ratio = _ratio(case.got, case.expected, 0.1 * abs(ratio - 1))  # a small error: is it the same everywhere?
    if ratio is None or ratio == 1:
        return None
    if abs(ratio + 1) < CLOSE:
        return Diagnosis(
            "gradient-sign",
            f"backward returns the negative of the derivative for `{case.name}` in {elements(case.known)}",
            f"flip the sign of the gradient for `{case.name}`",
            {"ratio": -1.0},
        )
    named = _name_factor(case, ratio)
    if case.got.numel() < 2 and not named:
        return None  # one element always has a constant ratio: let the other tests name it first
    return _scaled(case, ratio, named)


def _scaled(case: _Wrong, ratio: complex | float, named: str) -> Diagnosis:
    reason = f" ({named})" if named else ""
    return Diagnosis(
        "gradient-scale",
        f"backward returns {ratio_text(ratio)} the derivative for `{case.name}` in {elements(case.known)}{reason}",
        f"divide the gradient for `{case.name}` by {number(ratio)}" + (f": {named}" if named else ""),
        {"ratio": ratio if isinstance(ratio, float) else str(ratio), **({"factor": named} if named else {})},
    )


def _ratio(got: torch.Tensor, expected: torch.Tensor, close: float = CLOSE) -> complex | float | None:
    """The one number that `got` is of `expected`, if there is one."""
    weight = (expected.conj() * expected).real.sum()
    if float(weight) == 0.0:
        return None
    ratio = (expected.conj() * got).sum() / weight
    if not same(got, ratio * expected, close):
        return None
    value: complex | float = ratio.item()
    return value if isinstance(value, float) or abs(value.imag) > CLOSE * abs(value) else value.real


def _name_factor(case: _Wrong, ratio: complex | float) -> str:
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
    return ""


def _swapped(case: _Wrong) -> Diagnosis | None:
    if not case.complete:
        return None
    for other in case.others:
        truth = other.expected
        if other.position == case.judgement.position or truth is None or truth.shape != case.judgement.got.shape:
            continue
        if same(case.judgement.got, truth):
            name = case.subject.argument(other.position)
            return Diagnosis(
                "gradient-swapped",
                f"backward returns for `{case.name}` the gradient of `{name}`",
                "return the gradients in the order of forward's arguments: "
                f"{', '.join(case.subject.case.argument_names)}",
                {"gradient_of": name},
            )
    return None


def _transposed(case: _Wrong) -> Diagnosis | None:
    got, expected = case.judgement.got, case.judgement.expected
    if not case.complete or expected is None or got.dim() == 0:
        return None
    for text, other in _rearranged(expected):
        if same(got, other.reshape(got.shape)):
            return Diagnosis(
                "gradient-transposed",
                f"backward returns the gradient for `{case.name}` {text}",
                f"put the elements of the gradient for `{case.name}` in the order of `{case.name}`",
                {"arrangement": text},
            )
    return None


def _rearranged(expected: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    if 2 <= expected.dim() <= 4:
        for order in itertools.permutations(range(expected.dim())):
            if order == tuple(range(expected.dim())):
                continue
            text = "transposed" if expected.dim() == 2 else f"with its dimensions in the order {order}"
            yield text, expected.permute(order)
    for dim in range(expected.dim()):
        if expected.shape[dim] > 1:
            yield f"reversed along dimension {dim}", expected.flip(dim)
            for shift in (1, -1):
                yield f"shifted by {shift} along dimension {dim}", expected.roll(shift, dim)


def _partial_upstream(case: _Wrong) -> Diagnosis | None:
    """Change parts of the upstream that the truth depends on, and see that the gradient does not notice."""
    upstream = list(case.subject.base_upstream)
    advice = "use the whole upstream gradient (grad_output), each element where it belongs"

    def unmoved(changed: list[torch.Tensor]) -> bool:
        again = _again(case, changed)
        return again is not None and same(again, case.judgement.got)

    for place, up in enumerate(upstream):
        of = "the upstream gradient" if len(upstream) == 1 else f"the upstream gradient of output {place}"
        variations: list[tuple[str, torch.Tensor]] = [(f"does not use {of}", -up)] if len(upstream) > 1 else []
        if up.numel() > 1:
            first = up.reshape(-1)[:1]
            variations.append((f"uses only the first element of {of}", torch.cat([first, -2 * up.reshape(-1)[1:]])))
            if up.dim() > 1 and up.shape[0] > 1:
                variations.append((f"uses only the first row of {of}", torch.cat([up[:1], -2 * up[1:]])))
            variations.append((f"uses only the sum or mean of {of}", up.reshape(-1).flip(0)))
        for text, changed in variations:
            if unmoved([*upstream[:place], changed.reshape(up.shape), *upstream[place + 1 :]]) and not _flat_truth(
                case, text
            ):
                return Diagnosis("gradient-ignores-upstream", f"backward's gradient for `{case.name}` {text}", advice)
    return None


def _flat_truth(case: _Wrong, text: str) -> bool:
    """Whether the truth itself could depend on the sum alone: one number for all elements, or a single
    element."""
    return "sum or mean" in text and case.expected.numel() < 2


def _candidates(case: _Wrong) -> Iterator[tuple[str, torch.Tensor]]:
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


def _tensor_factor(case: _Wrong) -> Diagnosis | None:
    got, expected = case.got, case.expected
    for name, tensor in _candidates(case):
        forms = (
            (tensor, f"the factor {name} once too often"),
            (tensor**2, f"the square of {name} as a factor too many"),
        )
        for factor, text in forms:
            if _same_up_to(got, expected * factor):
                return _by_factor(case, f"has {text}")
            if _same_up_to(expected, got * factor):
                return _by_factor(
                    case, f"lacks {text.replace(' once too often', '').replace(' as a factor too many', '')}"
                )
    return None


def _same_up_to(left: torch.Tensor, right: torch.Tensor) -> bool:
    """Equal, or one the negative of the other; not where a single element makes it a coincidence."""
    return left.numel() > 1 and scale(left) > 0 and (same(left, right) or same(left, -right))


def _by_factor(case: _Wrong, text: str) -> Diagnosis:
    return Diagnosis(
        "gradient-scale",
        f"backward returns for `{case.name}` a gradient that {text}",
        f"check the factors in the gradient for `{case.name}`",
        {"factor": text},
    )


def _term(case: _Wrong) -> Diagnosis | None:
    """A sum with one term missing or too many: the difference is a multiple of a known product."""
    difference = case.expected - case.got
    if difference.numel() < 2:
        return None if case.judgement.got.numel() > 1 else _lone_element(case)
    candidates = list(_candidates(case))
    products = [(name, tensor) for name, tensor in candidates]
    products += [(f"{a} * {b}", x * y) for (a, x), (b, y) in itertools.combinations_with_replacement(candidates, 2)]
    for name, tensor in products:
        ratio = _ratio(difference, tensor)
        if ratio is None or isinstance(ratio, complex) or abs(ratio) < 1e-3:
            continue
        coefficient = "" if abs(abs(ratio) - 1) < CLOSE else f"{number(abs(ratio))} * "
        verb = "lacks" if ratio > 0 else "has too much of"
        return Diagnosis(
            "gradient-wrong",
            f"backward returns for `{case.name}` a gradient that {verb} the term {coefficient}{name}",
            f"check the terms of the gradient: one for each way in which `{case.name}` enters",
            {"term": f"{coefficient}{name}"},
        )
    return None


def _lone_element(case: _Wrong) -> Diagnosis | None:
    ratio = _ratio(case.got, case.expected)
    return None if ratio is None else _scaled(case, ratio, _name_factor(case, ratio))


def _part(case: _Wrong) -> Diagnosis | None:
    wrong = case.judgement.wrong
    assert wrong is not None
    if bool(wrong[case.known].all()):
        return None
    among = wrong[case.known]
    ratio = _ratio(case.got[among], case.expected[among])
    by = f": there it is {ratio_text(ratio)} the derivative" if ratio is not None else ""
    which = where_wrong(wrong & case.known, case.subject.inputs[case.judgement.position], case.name)
    return Diagnosis(
        "gradient-wrong",
        f"backward returns a wrong derivative for `{case.name}` in {which}{by}",
        f"look at what is special about {which}",
        {"elements": which} | ({"ratio": ratio} if isinstance(ratio, float) else {}),
    )


TESTS = (
    _nonfinite, _missing, _ignores_scale, _conjugate, _constant_ratio, _swapped, _transposed,
    _partial_upstream, _tensor_factor, _term, _part,
)  # fmt: skip
TESTS_OF_SMALL_ERRORS = (_nonfinite, _ignores_scale, _constant_ratio, _part)
