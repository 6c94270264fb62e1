"""Second derivatives of a Function by each route, and what they should be.

The first derivatives are weighted to one number, of which a second derivative is the gradient. The truth is its slope,
by differences in the inputs and by linearity in the upstream.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from gradsmith.check.compare import scale
from gradsmith.check.difference import Estimate
from gradsmith.check.inputs import spread_like
from gradsmith.check.isolation import seeded, user_code
from gradsmith.check.judge import rounding
from gradsmith.check.oracle import inner, size_of, slope_of
from gradsmith.check.rounding import Upstream, rounding_in
from gradsmith.check.subject import Subject

CONSTANT = "autograd.grad with a constant upstream"
VARIABLE = "autograd.grad with an upstream that requires a gradient"
FUNC = "torch.func.grad of torch.func.grad"


def weights_of(subject: Subject) -> list[torch.Tensor]:
    """What the first derivatives are weighted with: random, one tensor an argument."""
    generator = torch.Generator().manual_seed(99)
    return [spread_like(subject.inputs[position], generator) for position in subject.arguments]


def second_derivatives(subject: Subject, route: str) -> tuple[list[torch.Tensor | None], float | None]:
    """The gradient of the weighted first derivatives in every input, and its slope along another upstream.

    Raises:
        Raised: the route refuses.
    """
    if route == FUNC:
        return _by_func(subject), None
    run = subject.forward()
    upstream = [up.clone().requires_grad_(route == VARIABLE) for up in subject.base_upstream]
    grads = subject.backward(run, upstream, create_graph=True)
    total = _weighted(subject, grads)
    wanted = [leaf for leaf in run.leaves if leaf is not None] + (upstream if route == VARIABLE else [])
    if total is None or not total.requires_grad:
        found: Sequence[torch.Tensor | None] = [None] * len(wanted)
    else:
        with user_code("double backward"), seeded():
            found = torch.autograd.grad(total, wanted, allow_unused=True)
    answers = iter(found)
    seconds = [None if leaf is None else next(answers) for leaf in run.leaves]
    rest = list(answers)
    pairs = [(part, other) for part, other in zip(rest, _other_upstream(subject), strict=False) if part is not None]
    return seconds, sum(inner(part.detach(), other) for part, other in pairs) if pairs else None


def _weighted(subject: Subject, grads: Sequence[torch.Tensor | None]) -> torch.Tensor | None:
    parts = [
        (weight.conj() * grad).real.sum() if grad.is_complex() else (weight * grad).sum()
        for weight, grad in zip(weights_of(subject), (grads[position] for position in subject.arguments), strict=True)
        if grad is not None and grad.requires_grad
    ]
    return torch.stack(parts).sum() if parts else None


def _by_func(subject: Subject) -> list[torch.Tensor | None]:
    upstream, weights = subject.base_upstream, weights_of(subject)
    places = [i for i, out in enumerate(subject.base.outputs) if isinstance(out, torch.Tensor) and out.requires_grad]

    def call(*values: torch.Tensor) -> torch.Tensor:
        given = list(subject.inputs)
        for position, value in zip(subject.arguments, values, strict=True):
            given[position] = value
        out = subject.case.function(*given, **subject.case.kwargs)
        outputs = out if isinstance(out, tuple | list) else (out,)
        return torch.stack([(up.conj() * outputs[i]).real.sum() for i, up in zip(places, upstream, strict=True)]).sum()

    everything = tuple(range(len(subject.arguments)))
    first: Callable[..., Any] = torch.func.grad(call, argnums=everything)

    def weighted(*values: torch.Tensor) -> torch.Tensor:
        return torch.stack([(w.conj() * g).real.sum() for w, g in zip(weights, first(*values), strict=True)]).sum()

    values = tuple(subject.inputs[position].detach().clone() for position in subject.arguments)
    with user_code("torch.func.grad"), seeded():
        found = torch.func.grad(weighted, argnums=everything)(*values)
    seconds: list[torch.Tensor | None] = [None] * len(subject.inputs)
    for position, second in zip(subject.arguments, found, strict=True):
        seconds[position] = second.detach()
    return seconds


def slope_of_first(
    subject: Subject, position: int, direction: torch.Tensor, guess: float, *, stretch: float = 1.0, noise: float = 0.0
) -> Estimate:
    """How the weighted first derivatives change along `direction`, by differences."""

    def first_order(inputs: tuple[Any, ...]) -> list[torch.Tensor]:
        _, grads = subject.vjp(inputs, subject.base_upstream)
        return [_or_zero(grads[place], subject.inputs[place]) for place in subject.arguments]

    accuracy, weights = 0.05 * subject.tolerance.relative * guess, weights_of(subject)
    return slope_of(first_order, subject, position, direction, weights, accuracy=accuracy, stretch=stretch, noise=noise)


def along_upstream(subject: Subject) -> float:
    """The first derivatives are linear in the upstream: their slope along another one is what they are for
    that one."""
    return _weighted_first(subject, _other_upstream(subject))


def _weighted_first(subject: Subject, upstream: Upstream) -> float:
    grads = subject.gradients(upstream)
    firsts = [_or_zero(grads[position], subject.inputs[position]) for position in subject.arguments]
    return sum(inner(weight, first) for weight, first in zip(weights_of(subject), firsts, strict=True))


def _or_zero(grad: torch.Tensor | None, like: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(like) if grad is None else grad.detach()


def _other_upstream(subject: Subject) -> tuple[torch.Tensor, ...]:
    return subject.upstream(subject.base.differentiable, which=3)


def is_additive(subject: Subject) -> bool:
    """Whether the gradients of a sum of two upstreams are the sum of theirs; a modifier may decide by sign."""
    others = _other_upstream(subject)
    summed = [up + other for up, other in zip(subject.base_upstream, others, strict=True)]
    parts = (subject.base_grads, *(subject.gradients(up) for up in (others, summed)))
    return all(
        first is None or second is None or total is None
        or torch.allclose(first + second, total, rtol=1e-3, atol=1e-3 * scale(torch.nan_to_num(total)), equal_nan=True)
        for first, second, total in zip(*parts, strict=True)
        if total is None or total.numel()
    )  # fmt: skip


def usual_rounding(subject: Subject) -> float:
    """The rounding in a second derivative as it usually is, by the size of the first ones."""
    firsts = [_or_zero(subject.base_grads[place], subject.inputs[place]) for place in subject.arguments]
    return 2000 * subject.tolerance.eps * size_of(weights_of(subject), firsts)


def rounding_in_first(subject: Subject) -> float:
    """The rounding in the weighted first derivatives, also where their terms cancel."""
    return max(_of_zero(subject), _measured(subject, _weighted_first))


def rounding_in_second(subject: Subject, route: str, position: int, direction: torch.Tensor) -> float:
    """The rounding in a second derivative along `direction`, also where its terms cancel."""

    def along(at: Subject, _: Upstream) -> float:
        part = second_derivatives(at, route)[0][position]
        return 0.0 if part is None else inner(part, direction)

    return _measured(subject, along)


def rounding_along_upstream(subject: Subject) -> float:
    """The rounding in the slope along another upstream, also where its terms cancel."""

    def difference(at: Subject, _: Upstream) -> float:
        return float(second_derivatives(at, VARIABLE)[1] or 0.0) - along_upstream(at)

    return max(_of_zero(subject), _measured(subject, difference))


def _measured(subject: Subject, number: Callable[[Subject, Upstream], float]) -> float:
    return rounding_in(subject, lambda at, up: [torch.tensor(number(at, up), dtype=torch.float64)])[0]


def _of_zero(subject: Subject) -> float:
    """How large the weighted first derivatives may come out by rounding where they are zero."""
    pairs = zip(subject.arguments, weights_of(subject), strict=True)
    return sum(rounding(subject, position) * float(torch.linalg.vector_norm(weight)) for position, weight in pairs)
