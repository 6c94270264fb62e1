"""Diagnosis: from a gradient and the right one to the name of the mistake.

The tests are ordered by how much they explain; the first that holds names the fault. Nothing here decides
*whether* a gradient is wrong: `judge` did.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import torch

from gradsmith.check.compare import scale
from gradsmith.check.describe import elements, number, ratio_text, where_wrong
from gradsmith.check.isolation import Raised
from gradsmith.check.judge import Judgement
from gradsmith.check.oracle import autodiff, replay_of
from gradsmith.check.patterns import CLOSE, Diagnosis, Wrong, candidates_of, name_factor, ratio_of, same
from gradsmith.check.subject import Subject


def diagnose(subject: Subject, judgement: Judgement, others: Sequence[Judgement]) -> Diagnosis:
    """Name the fault of one argument's gradient; `others` are the judgements of the other arguments."""
    assert judgement.expected is not None
    expected = judgement.expected.detach()
    known = torch.isfinite(expected)
    case = Wrong(
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


def _nonfinite(case: Wrong) -> Diagnosis | None:
    bad = ~torch.isfinite(case.judgement.got) & case.known
    if not bool(bad.any()):
        return None
    return Diagnosis(
        "gradient-nonfinite",
        f"backward returns NaN or infinity for `{case.name}` in {elements(bad)}; the derivative is finite",
        "find the division, log or root that meets zero there, and use torch.where before it, not after",
    )


def _missing(case: Wrong) -> Diagnosis | None:
    if bool(case.got.abs().sum() > 0) and not case.judgement.missing:
        return None
    what = "None" if case.judgement.missing else "zero"
    return Diagnosis(
        "gradient-missing",
        f"backward returns {what} for `{case.name}`, whose derivative is not zero",
        f"return the gradient of `{case.name}`; None says that the output does not depend on it",
    )


def _ignores_scale(case: Wrong) -> Diagnosis | None:
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


def _again(case: Wrong, upstream: list[torch.Tensor]) -> torch.Tensor | None:
    try:
        grad = case.subject.backward(case.subject.base, upstream, retain_graph=True)[case.judgement.position]
    except Raised:
        return None
    return None if grad is None else grad.detach()


def _conjugate(case: Wrong) -> Diagnosis | None:
    if not case.got.is_complex() or not (same(case.got, case.expected.conj()) or _conjugate_under_real(case)):
        return None
    return Diagnosis(
        "gradient-conjugate",
        f"backward returns the complex conjugate of the gradient for `{case.name}`",
        "torch's convention: the gradient of a holomorphic f is grad_output * f'(z).conj()",
    )


def _conjugate_under_real(case: Wrong) -> bool:
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


def _constant_ratio(case: Wrong) -> Diagnosis | None:
    ratio = ratio_of(case.got, case.expected)
    if ratio is not None and abs(ratio - 1) < 10 * CLOSE:
        ratio = ratio_of(case.got, case.expected, 0.1 * abs(ratio - 1))  # a small error: is it the same everywhere?
    if ratio is None or ratio == 1:
        return None
    if abs(ratio + 1) < CLOSE:
        return Diagnosis(
            "gradient-sign",
            f"backward returns the negative of the derivative for `{case.name}` in {elements(case.known)}",
            f"flip the sign of the gradient for `{case.name}`",
            {"ratio": -1.0},
        )
    named = name_factor(case, ratio)
    if case.got.numel() < 2 and not named:
        return None  # one element always has a constant ratio: let the other tests name it first
    return _scaled(case, ratio, named)


def _scaled(case: Wrong, ratio: complex | float, named: str) -> Diagnosis:
    reason = f" ({named})" if named else ""
    return Diagnosis(
        "gradient-scale",
        f"backward returns {ratio_text(ratio)} the derivative for `{case.name}` in {elements(case.known)}{reason}",
        f"divide the gradient for `{case.name}` by {number(ratio)}" + (f": {named}" if named else ""),
        {"ratio": ratio if isinstance(ratio, float) else str(ratio), **({"factor": named} if named else {})},
    )


def _swapped(case: Wrong) -> Diagnosis | None:
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


def _transposed(case: Wrong) -> Diagnosis | None:
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


def _partial_upstream(case: Wrong) -> Diagnosis | None:
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


def _flat_truth(case: Wrong, text: str) -> bool:
    """Whether the truth itself could depend on the sum alone: one number for all elements, or a single
    element."""
    return "sum or mean" in text and case.expected.numel() < 2


def _tensor_factor(case: Wrong) -> Diagnosis | None:
    got, expected = case.got, case.expected
    for name, tensor in candidates_of(case):
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


def _by_factor(case: Wrong, text: str) -> Diagnosis:
    return Diagnosis(
        "gradient-scale",
        f"backward returns for `{case.name}` a gradient that {text}",
        f"check the factors in the gradient for `{case.name}`",
        {"factor": text},
    )


def _term(case: Wrong) -> Diagnosis | None:
    """A sum with one term missing or too many: the difference is a multiple of a known product."""
    difference = case.expected - case.got
    if difference.numel() < 2:
        return None if case.judgement.got.numel() > 1 else _lone_element(case)
    candidates = list(candidates_of(case))
    products = [(name, tensor) for name, tensor in candidates]
    products += [(f"{a} * {b}", x * y) for (a, x), (b, y) in itertools.combinations_with_replacement(candidates, 2)]
    for name, tensor in products:
        ratio = ratio_of(difference, tensor)
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


def _lone_element(case: Wrong) -> Diagnosis | None:
    ratio = ratio_of(case.got, case.expected)
    return None if ratio is None else _scaled(case, ratio, name_factor(case, ratio))


def _part(case: Wrong) -> Diagnosis | None:
    wrong = case.judgement.wrong
    assert wrong is not None
    if bool(wrong[case.known].all()):
        return None
    among = wrong[case.known]
    ratio = ratio_of(case.got[among], case.expected[among])
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
