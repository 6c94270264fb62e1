"""Mistakes of a whole gradient: missing, not finite, conjugate, scaled, swapped, rearranged."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch

from gradsmith.check.describe import elements, number, ratio_text
from gradsmith.check.diagnosis.patterns import CLOSE, Diagnosis, Wrong, name_factor, ratio_of, same
from gradsmith.check.diagnosis.upstream import again
from gradsmith.check.oracle import autodiff, replay_of


def nonfinite(case: Wrong) -> Diagnosis | None:
    bad = ~torch.isfinite(case.judgement.got) & case.known
    if not bool(bad.any()):
        return None
    return Diagnosis(
        "gradient-nonfinite",
        f"backward returns NaN or infinity for `{case.name}` in {elements(bad)}; the derivative is finite",
        "find the division, log or root that meets zero there, and use torch.where before it, not after",
    )


def missing(case: Wrong) -> Diagnosis | None:
    if bool(case.got.abs().sum() > 0) and not case.judgement.missing:
        return None
    what = "None" if case.judgement.missing else "zero"
    return Diagnosis(
        "gradient-missing",
        f"backward returns {what} for `{case.name}`, whose derivative is not zero",
        f"return the gradient of `{case.name}`; None says that the output does not depend on it",
    )


def conjugate(case: Wrong) -> Diagnosis | None:
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
    got = again(case, upstream)
    if function is None or got is None or case.judgement.oracle not in ("reference", "replay"):
        return False
    expected = autodiff(subject, function, upstream)[position]
    return expected is not None and same(got, expected.conj())


def constant_ratio(case: Wrong) -> Diagnosis | None:
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


def lone_element(case: Wrong) -> Diagnosis:
    """Of a single element any ratio is constant: a factor only if it is a small whole number, or one over that."""
    ratio = ratio_of(case.got, case.expected)
    if isinstance(ratio, float) and _whole(ratio):
        return _scaled(case, ratio, name_factor(case, ratio))
    got, expected = (number(values.item()) for values in (case.got, case.expected))
    return Diagnosis(
        "gradient-wrong",
        f"backward returns {got} for `{case.name}`, where the derivative is {expected}",
        f"derive the gradient for `{case.name}` anew and compare it with autograd on a plain forward",
    )


def _whole(ratio: float) -> bool:
    """By chance alone one ratio in some thousand would be."""
    larger = max(abs(ratio), 1 / abs(ratio)) if ratio else 0.0
    return larger < 10.5 and abs(larger - round(larger)) < 0.01 * CLOSE


def swapped(case: Wrong) -> Diagnosis | None:
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


def transposed(case: Wrong) -> Diagnosis | None:
    got, expected = case.judgement.got, case.judgement.expected
    if not case.complete or expected is None or got.dim() == 0:
        return None
    for text, other in itertools.chain(_rearranged(expected), _reordered(got, expected)):
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
            for shift in (1, -1, 2, -2, 3, -3):
                yield f"shifted by {shift} along dimension {dim}", expected.roll(shift, dim)


def _reordered(got: torch.Tensor, expected: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    """The truth in the order of `got`'s values; too few elements, or many alike, would be a coincidence."""
    values = expected.reshape(-1)
    if got.is_complex() or values.unique().numel() < max(4, 0.9 * values.numel()):
        return
    yield "with its elements in another order", values.sort().values[got.reshape(-1).argsort().argsort()]
