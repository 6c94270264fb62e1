"""Mistakes inside a formula: a factor, a term, or only some of the elements."""

from __future__ import annotations

import itertools

import torch

from gradsmith.check.compare import scale
from gradsmith.check.describe import number, ratio_text, where_wrong
from gradsmith.check.diagnosis.patterns import CLOSE, Diagnosis, Wrong, candidates_of, ratio_of, same
from gradsmith.check.diagnosis.whole import lone_element


def tensor_factor(case: Wrong) -> Diagnosis | None:
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


def term(case: Wrong) -> Diagnosis | None:
    """A sum with one term missing or too many: the difference is a multiple of a known product."""
    difference = case.expected - case.got
    if difference.numel() < 2:
        return None if case.judgement.got.numel() > 1 else lone_element(case)
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


def part(case: Wrong) -> Diagnosis | None:
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
        {"wrong_where": which} | ({"ratio": ratio} if isinstance(ratio, float) else {}),
    )
