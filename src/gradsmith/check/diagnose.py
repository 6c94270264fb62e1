"""Diagnosis: from a gradient and the right one to the name of the mistake.

The tests are ordered by how much they explain; the first that holds names the fault. Nothing here decides
*whether* a gradient is wrong: `judge` did.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from gradsmith.check.describe import elements
from gradsmith.check.diagnosis import structure, upstream, whole
from gradsmith.check.diagnosis.patterns import Diagnosis, Wrong, same
from gradsmith.check.diagnosis.repair import repairs
from gradsmith.check.diagnosis.rewriting import Rewriting
from gradsmith.check.judge import Judgement


def diagnose(judgement: Judgement, others: Sequence[Judgement]) -> Diagnosis:
    """Name the fault of one argument's gradient; `others` are the judgements of the other arguments."""
    assert judgement.expected is not None
    subject, expected = judgement.at, judgement.expected.detach()
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
    found = _named(case)
    inside = found.code == "gradient-wrong" or (found.code == "gradient-scale" and "factor" not in found.evidence)
    rewriting = repairs(subject, others).get(judgement.position) if inside else None
    return found if rewriting is None else _with_repair(found, rewriting)


def _named(case: Wrong) -> Diagnosis:
    for test in TESTS if not same(case.got, case.expected) else TESTS_OF_SMALL_ERRORS:
        found = test(case)
        if found is not None:
            return found
    return Diagnosis(
        "gradient-wrong",
        f"backward returns a wrong derivative for `{case.name}` in {elements(case.judgement.wrong)}",
        f"derive the gradient for `{case.name}` anew and compare it with autograd on a plain forward",
    )


def _with_repair(found: Diagnosis, rewriting: Rewriting) -> Diagnosis:
    """The same, and the line at fault."""
    line, before, after = rewriting.line, rewriting.before, rewriting.after
    return replace(
        found,
        message=f"{found.message}; it is right with `{after}` for `{before}` on line {line}",
        advice=f"line {line}: is `{after}` meant where it says `{before}`?",
        evidence={**found.evidence, "repair": {"line": line, "from": before, "to": after}},
    )


TESTS = (
    whole.nonfinite, whole.missing, upstream.ignores_scale, whole.conjugate, whole.constant_ratio, whole.swapped,
    whole.transposed, upstream.partial_upstream, structure.tensor_factor, structure.term, structure.part,
)  # fmt: skip
TESTS_OF_SMALL_ERRORS = (whole.nonfinite, upstream.ignores_scale, whole.constant_ratio, structure.part)
