"""What a mutation does to the derivative, decided by float64 autodiff of the reference at five draws of inputs.

The decision knows nothing of gradsmith, and gradsmith is asked only afterwards.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from benchmarks.mutants.derivatives import (
    Point,
    agree,
    gradients,
    point,
    raw_gradients,
    second_gradients,
)
from benchmarks.mutants.specimen import Specimen

SAME_SIZES, DRAWS = 3, 5  # from draw 3 on the sizes are others

EXPECTED: dict[str, tuple[str, ...]] = {
    "equivalent": (),
    "repaired by the engine": ("gradient-shape", "gradient-dtype"),  # a warning
    "refuses a second derivative": ("no-double-backward",),  # a note
    "raises": ("crash",),
    "shape": ("gradient-shape",),
    "missing": ("gradient-missing",),
    "not finite": ("gradient-nonfinite",),
    "upstream": ("gradient-ignores-upstream",),
    "sign": ("gradient-sign",),
    "scale": ("gradient-scale",),
    "conjugate": ("gradient-conjugate",),
    "swapped": ("gradient-swapped",),
    "transposed": ("gradient-transposed",),
    "structure": ("gradient-scale", "gradient-wrong", "gradient-ignores-upstream"),  # with the cause in the evidence
    "second derivative": ("double-backward-wrong",),
    "other sizes": ("edge-shape",),
    "other values": (
        "gradient-wrong", "gradient-sign", "gradient-scale", "gradient-missing", "gradient-nonfinite", "edge-shape",
    ),
}  # fmt: skip
UNCHANGED = ("equivalent", "repaired by the engine", "refuses a second derivative")


@dataclass(frozen=True)
class Effect:
    """What is wrong with each argument's gradient; `None` stands for the whole."""

    of: tuple[tuple[str | None, str], ...]

    @property
    def name(self) -> str:
        return self.of[0][1]

    @property
    def changes(self) -> bool:
        return self.name not in UNCHANGED


def effect_of(mutant: type[torch.autograd.Function], specimen: Specimen, names: tuple[str, ...]) -> Effect:
    """The effect; `names` are the arguments of forward."""
    points = [point(specimen.plain, specimen.inputs(draw), draw) for draw in range(DRAWS)]
    wanted = points[0].wanted
    truths = [_zeroed(gradients(specimen.plain, at), at) for at in points]
    grads: list[list[torch.Tensor | None]] = []
    for draw, at in enumerate(points):
        try:
            raw = raw_gradients(mutant, at)
            grads.append(gradients(mutant.apply, at))
        except Exception as error:  # whatever a mutant raises
            if draw >= SAME_SIZES:
                break
            refused = "invalid gradient" in str(error) or "incorrect number of gradients" in str(error)
            return Effect(((None, "shape" if refused else "raises"),))
        if draw == 0:
            shapes = [None if grad is None else tuple(grad.shape) for grad in raw]
            dtypes = [None if grad is None else grad.dtype for grad in raw]
    effects: list[tuple[str | None, str]] = []
    repaired: list[tuple[str | None, str]] = []
    for place, position in enumerate(wanted):
        leaf, name = points[0].inputs[position], names[position]
        other_shape = shapes[place] is not None and shapes[place] != tuple(leaf.shape)
        pairs = [_pair(grad[place], truth[place]) for grad, truth in zip(grads, truths, strict=False)]
        right = [agree(got, truth) for got, truth in pairs]
        if all(right):
            if other_shape or dtypes[place] not in (None, leaf.dtype):
                repaired.append((name, "repaired by the engine"))
        elif other_shape:
            effects.append((name, "shape"))
        elif all(right[:SAME_SIZES]):
            effects.append((name, "other sizes"))
        elif right[0]:
            effects.append((name, "other values"))
        else:
            what = _name(mutant, specimen, points[0], place, pairs[:SAME_SIZES], truths[:SAME_SIZES])
            effects.append((name, what))
    if effects:
        return Effect(tuple(effects))
    if len(grads) < DRAWS:
        return Effect(((None, "other sizes"),))
    second = _second(mutant, specimen, points)
    if second is not None:
        return Effect(((None, second),))
    return Effect(tuple(repaired) or ((None, "equivalent"),))


def _zeroed(grads: list[torch.Tensor | None], at: Point) -> list[torch.Tensor]:
    pairs = zip(grads, at.wanted, strict=True)
    return [torch.zeros_like(at.inputs[i]) if grad is None else grad for grad, i in pairs]


def _pair(got: torch.Tensor | None, truth: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.zeros_like(truth) if got is None else got, truth


def _name(
    mutant: Any,
    specimen: Specimen,
    at: Point,
    place: int,
    pairs: list[tuple[torch.Tensor, torch.Tensor]],
    truths: list[list[torch.Tensor]],
) -> str:
    """The simplest description that holds at every draw."""
    got = pairs[0][0]
    if not all(bool(torch.isfinite(grad).all()) for grad, _ in pairs):
        return "not finite"
    if all(not bool(grad.any()) for grad, _ in pairs):
        return "missing"
    doubled = gradients(mutant.apply, at, [2 * up for up in at.upstream])[place]
    if doubled is None or not agree(doubled, 2 * got):
        return "upstream"
    ratios = [_ratio(grad, truth) for grad, truth in pairs]
    if all(ratio is not None and agree(ratio, ratios[0]) for ratio in ratios) and ratios[0] is not None:
        return "sign" if agree(ratios[0], torch.tensor(-1.0).to(ratios[0])) else "scale"
    if got.is_complex() and _conjugate(mutant, specimen, at, place):
        return "conjugate"
    for other in range(len(truths[0])):
        if other != place and all(agree(p[0], truth[other]) for p, truth in zip(pairs, truths, strict=True)):
            return "swapped"
    for rearrange in _rearrangements(got):
        if all(agree(grad, rearrange(truth)) for grad, truth in pairs):
            return "transposed"
    return "upstream" if _unmoved(mutant, specimen, at, place, got) else "structure"


def _conjugate(mutant: Any, specimen: Specimen, at: Point, place: int) -> bool:
    """Under a real upstream: a complex one multiplies both, and they are no conjugates of each other."""
    upstream = [up.real.to(up.dtype) for up in at.upstream]
    got, truth = (gradients(function, at, upstream)[place] for function in (mutant.apply, specimen.plain))
    return got is not None and truth is not None and agree(got, truth.conj())


def _ratio(got: torch.Tensor, truth: torch.Tensor) -> torch.Tensor | None:
    if not bool(truth.any()):
        return None
    ratio = (truth.conj() * got).sum() / (truth.conj() * truth).sum()
    return ratio if agree(got, ratio * truth) else None


def _rearrangements(grad: torch.Tensor) -> list[Callable[[torch.Tensor], torch.Tensor]]:
    """Permutations of the dimensions, and one dimension turned round."""
    found: list[Callable[[torch.Tensor], torch.Tensor]] = []
    for order in itertools.permutations(range(grad.dim())):
        if order != tuple(range(grad.dim())):
            found.append(lambda truth, order=order: truth.permute(order))
    for dim in range(grad.dim()):
        found.append(lambda truth, dim=dim: truth.flip(dim))
    return found


def _unmoved(mutant: Any, specimen: Specimen, at: Point, place: int, got: torch.Tensor) -> bool:
    """Whether the gradient does not notice a change of the upstream that the truth notices."""
    generator = torch.Generator().manual_seed(3)
    for which, up in enumerate(at.upstream):
        flat = up.reshape(-1)
        changes = [-flat] if len(at.upstream) > 1 else []
        if flat.numel() > 1:
            rest = torch.randn(flat.numel() - 1, dtype=flat.dtype, generator=generator)
            changes += [torch.cat([flat[:1], rest]), flat.flip(0)]
        for change in changes:
            upstream = [*at.upstream[:which], change.reshape(up.shape), *at.upstream[which + 1 :]]
            moved = gradients(mutant.apply, at, upstream)[place]
            truth = gradients(specimen.plain, at, upstream)[place]
            before = gradients(specimen.plain, at)[place]
            if moved is None or truth is None or before is None:
                continue
            if agree(moved, got) and not agree(truth, before):
                return True
    return False


def _second(mutant: Any, specimen: Specimen, points: list[Point]) -> str | None:
    """What is wrong with the second derivative, where the first is right."""
    for at in points[:SAME_SIZES]:
        truth = second_gradients(specimen.plain, at)
        try:
            got = second_gradients(mutant.apply, at)
        except Exception:  # refused aloud: no harm done
            return "refuses a second derivative"
        if not all(agree(g, t, 1e-8) for g, t in zip(got, truth, strict=True)):
            return "second derivative"
    return None
