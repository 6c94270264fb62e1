"""Mistakes in the use of the upstream gradient: not at all, not linear, only a part of it."""

from __future__ import annotations

import torch

from gradsmith.check.deliberate import is_flat
from gradsmith.check.diagnosis.patterns import Diagnosis, Wrong, same
from gradsmith.check.isolation import Raised
from gradsmith.check.oracle import differentiable_places


def ignores_scale(case: Wrong) -> Diagnosis | None:
    """vjp(2 g) must be 2 vjp(g)."""
    doubled = again(case, [2 * up for up in case.subject.base_upstream])
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


def again(case: Wrong, upstream: list[torch.Tensor]) -> torch.Tensor | None:
    try:
        grad = case.subject.gradients(upstream)[case.judgement.position]
    except Raised:
        return None
    return None if grad is None else grad.detach()


def partial_upstream(case: Wrong) -> Diagnosis | None:
    """Change parts of the upstream that the truth depends on, and see that the gradient does not notice."""
    upstream = list(case.subject.base_upstream)
    advice = "use the whole upstream gradient (grad_output), each element where it belongs"

    def unmoved(changed: list[torch.Tensor]) -> bool:
        moved = again(case, changed)
        return moved is not None and same(moved, case.judgement.got)

    for place, (output, up) in enumerate(zip(differentiable_places(case.subject), upstream, strict=True)):
        if is_flat(case.subject, output):
            continue  # the truth does not depend on it, either
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
