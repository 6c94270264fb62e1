"""Asks: is what `backward` returns the derivative of `forward`, and if not, how is it wrong?

Judged at the inputs given (or close by, where those sit on a kink) with a random upstream. Cannot see:
mistakes that show only at other values or sizes; an error smaller than the tolerance; where differences
alone are to be had, an error in few elements of a large argument.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from gradsmith.check.checks.returned import wrong_shape
from gradsmith.check.deliberate import sort_out
from gradsmith.check.diagnose import diagnose
from gradsmith.check.error_map import error_map
from gradsmith.check.finding import Finding
from gradsmith.check.findings import finding
from gradsmith.check.judge import Judgement, judge
from gradsmith.check.measured import Taylor
from gradsmith.check.subject import Subject
from gradsmith.check.taylor import taylor
from gradsmith.check.variations import reduced

CODES = (
    "gradient-sign", "gradient-scale", "gradient-transposed", "gradient-swapped", "gradient-conjugate",
    "gradient-ignores-upstream", "gradient-missing", "gradient-wrong", "gradient-nonfinite",
    "surrogate-gradient", "gradient-modifier", "not-smooth-here", "cannot-tell",
)  # fmt: skip


def check(subject: Subject) -> Iterator[Finding]:
    judgements = [judge(subject, position) for position in subject.arguments]
    subject.measured += _remainders(subject, judgements)
    subject.variations += sorted({judgement.label for judgement in judgements})
    meant, mistakes = sort_out(subject)
    if meant is not None:
        yield meant
    for judgement in mistakes:
        if not wrong_shape(subject, judgement.position):
            yield _wrong(judgement, judgements)
    for judgement in judgements:
        if judgement.verdict == "unknown":
            yield _unknown(subject, judgement)
        elif judgement.verdict == "right" and judgement.kink:
            yield _elsewhere(subject, judgement)


def _remainders(subject: Subject, judgements: Sequence[Judgement]) -> Iterator[Taylor]:
    """Of the arguments that were judged at the point itself; around a kink they say nothing."""
    start = reduced(subject)
    for judgement in judgements:
        if judgement.verdict in ("right", "wrong") and not judgement.kink and judgement.label == "as given":
            remainder = taylor(start, judgement.position) if judgement.got.numel() else None
            if remainder is not None:
                yield remainder


def _wrong(judgement: Judgement, judgements: Sequence[Judgement]) -> Finding:
    subject = judgement.at
    name = subject.argument(judgement.position)
    if judgement.verdict == "constant":
        return finding(
            subject,
            "gradient-wrong",
            name,
            f"backward returns a gradient for `{name}`, on which the output does not depend",
            evidence={"oracle": judgement.oracle, "got": largest(judgement.got)},
            advice=f"return None for `{name}`",
        )
    diagnosis = diagnose(judgement, judgements)
    return finding(
        subject,
        diagnosis.code,
        name,
        diagnosis.message,
        evidence={**evidence(judgement), **diagnosis.evidence},
        advice=diagnosis.advice,
    )


def evidence(judgement: Judgement) -> dict[str, Any]:
    """The worst element: where, what was got, what is right, by which oracle, known how well."""
    expected, wrong = judgement.expected, judgement.wrong
    assert expected is not None
    assert wrong is not None
    off = torch.where(wrong, (judgement.got - expected).abs(), torch.zeros_like(expected.abs()))
    off = torch.nan_to_num(off, nan=torch.inf)
    flat = int(off.reshape(-1).argmax())
    index = [int(place) for place in torch.unravel_index(torch.tensor(flat), expected.shape)]
    got, right = judgement.got.reshape(-1)[flat].item(), expected.reshape(-1)[flat].item()
    return {
        "element": index,
        "got": _plain(got),
        "expected": _plain(right),
        "ratio": _plain(got / right) if right else None,
        "wrong_elements": int(wrong.sum()),
        "elements_looked_at": int(torch.isfinite(expected).sum()),
        "elements": expected.numel(),
        "oracle": judgement.oracle,
        "oracle_error": judgement.error,
        "error_map": error_map(judgement.got, expected),
    }


def largest(tensor: torch.Tensor) -> Any:
    return _plain(tensor.reshape(-1)[int(tensor.abs().argmax())].item())


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, complex) else value


def _elsewhere(subject: Subject, judgement: Judgement) -> Finding:
    name = subject.argument(judgement.position)
    return finding(
        subject,
        "not-smooth-here",
        name,
        f"the inputs given lie on a kink in `{name}`, where there is no derivative; close by the gradient is right",
        evidence={"oracle": judgement.oracle, "judged": judgement.label},
        advice="nothing to do; give inputs away from the kink to have those judged",
    )


def _unknown(subject: Subject, judgement: Judgement) -> Finding:
    name = subject.argument(judgement.position)
    code = "not-smooth-here" if judgement.kink else "cannot-tell"
    return finding(
        subject,
        code,
        name,
        f"the gradient for `{name}` could not be judged: {judgement.reason}",
        evidence={"oracle": judgement.oracle},
        advice="give inputs at which the function is smooth" if judgement.kink else "give a reference= forward",
    )
