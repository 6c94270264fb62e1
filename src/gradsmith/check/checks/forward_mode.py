"""Asks: does a `jvp` agree with the backward?

By the adjoint identity <v, Ju> = <J'v, u>, which needs no step size. Only where the backward itself is
right, so that one fault is not named twice. Forward mode within forward mode, which torch gets wrong itself, is
told as torch's own fault. Cannot see: a second derivative by forward over reverse.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.autograd import forward_ad

from gradsmith.check._private import uses_setup_context
from gradsmith.check.deliberate import sort_out
from gradsmith.check.finding import Finding
from gradsmith.check.findings import finding
from gradsmith.check.inputs import fresh
from gradsmith.check.isolation import Raised, seeded, user_code
from gradsmith.check.oracle import differentiable_places, inner, random_direction, size_of, slope_of
from gradsmith.check.rounding import Upstream, rounding_in
from gradsmith.check.subject import Subject
from gradsmith.check.tree import leaves

CODES = ("jvp-wrong", "no-jvp", "framework-bug")
NESTED = "https://github.com/pytorch/pytorch/issues/197867"


def check(subject: Subject) -> Iterator[Finding]:
    cls: Any = subject.case.function_class
    if cls is None or sort_out(subject)[1]:
        return
    if cls.jvp is torch.autograd.Function.jvp:
        yield finding(
            subject, "no-jvp", None, "forward mode is refused: the Function has no jvp",
            advice="nothing to do, unless jacfwd, hessian or forward_ad are needed",
        )  # fmt: skip
        return
    directions = {i: random_direction(subject.inputs[i], 60 + 10 * i) for i in subject.arguments}
    try:
        forward = _along(subject, directions)
    except Raised as raised:
        if isinstance(raised.error, NotImplementedError):
            yield finding(
                subject, "no-jvp", None, f"forward mode is refused: the {raised}",
                advice="nothing to do, unless jacfwd, hessian or forward_ad are needed",
            )  # fmt: skip
            return
        yield finding(
            subject, "jvp-wrong", None, f"the {raised}", where="jvp", raised=raised,
            advice="jvp gets one tangent for each argument of forward, and returns one for each output",
            show=_SCRIPT,
        )  # fmt: skip
        return
    backward = _against(subject, directions)
    pairs = [(subject.base_grads[position], direction) for position, direction in directions.items()]
    size = max(size_of([grad], [direction]) for grad, direction in pairs if grad is not None)
    allowed, off = 5 * subject.tolerance.relative * max(size, abs(forward), abs(backward)), abs(forward - backward)
    if off > allowed and off > _rounding(subject, directions):
        yield finding(
            subject,
            "jvp-wrong",
            None,
            f"jvp and backward disagree: <v, Ju> is {forward:.6g} and <J'v, u> is {backward:.6g}",
            evidence={"got": forward, "expected": backward, "ratio": forward / backward if backward else None,
                      "oracle": "adjoint identity with a backward that is right"},
            advice="jvp computes the derivative times the tangents, one for each output",
            where="jvp",
            show=_SCRIPT,
        )  # fmt: skip
    elif uses_setup_context(cls) and _lost_when_nested(subject, subject.arguments[0]):
        yield finding(
            subject, "framework-bug", None,
            "forward mode within forward mode (jacfwd of jacfwd) gives zero, whatever jvp says",
            evidence={"thread": NESTED},
            advice="take second derivatives by jacrev or hessian; gs.op and gs.Function are not affected",
            where="jvp",
        )  # fmt: skip


def _along(subject: Subject, directions: dict[int, torch.Tensor]) -> float:
    """<v, Ju>: the tangents of the outputs with the upstream."""
    tangents = _tangents(subject, directions)
    return sum(inner(up, tangent) for up, tangent in zip(subject.base_upstream, tangents, strict=True))


def _against(subject: Subject, directions: dict[int, torch.Tensor]) -> float:
    """<J'v, u>: the gradients with the directions."""
    pairs = [(subject.base_grads[position], direction) for position, direction in directions.items()]
    return sum(inner(grad, direction) for grad, direction in pairs if grad is not None)


def _rounding(subject: Subject, directions: dict[int, torch.Tensor]) -> float:
    """How far apart the two may be by rounding, also where the terms of both cancel."""

    def difference(at: Subject, _: Upstream) -> list[torch.Tensor]:
        return [torch.tensor(_along(at, directions) - _against(at, directions), dtype=torch.float64)]

    return rounding_in(subject, difference)[0]


def _lost_when_nested(subject: Subject, position: int) -> bool:
    """Whether a second derivative that is not zero, as differences of the first one know, comes out as zero."""
    value, places = subject.inputs[position], differentiable_places(subject)
    direction = random_direction(value, 61)

    def outputs(moved: torch.Tensor) -> list[Any]:
        inputs = [*subject.inputs[:position], moved, *subject.inputs[position + 1 :]]
        out = list(leaves(subject.case.function(*inputs, **subject.case.kwargs)))
        return [out[place] for place in places]

    def first(moved: torch.Tensor) -> list[Any]:
        tangents: list[Any] = torch.func.jvp(outputs, (moved,), (direction,))[1]
        return tangents

    def tangents_at(inputs: tuple[Any, ...]) -> list[torch.Tensor]:
        return _tangents(subject.at(inputs, subject.label), {position: direction})

    try:
        with seeded(), user_code("nested jvp"):
            second = torch.func.jvp(first, (value,), (direction,))[1]
        if any(bool(tangent.any()) for tangent in second):
            return False
        slope = slope_of(tangents_at, subject, position, direction, subject.base_upstream)
    except Raised:
        return False
    size = size_of(subject.base_upstream, tangents_at(subject.inputs))
    return slope.usable and abs(slope.value) > max(8 * slope.error, subject.tolerance.relative * size)


def _tangents(subject: Subject, directions: dict[int, torch.Tensor]) -> list[torch.Tensor]:
    """The tangents of the differentiable outputs; zeros where there is none."""
    _, given = fresh(subject.inputs, tuple(False for _ in subject.inputs))
    places = [i for i, out in enumerate(subject.base.outputs) if isinstance(out, torch.Tensor) and out.requires_grad]
    with seeded(), user_code("jvp"), forward_ad.dual_level():
        duals = [  # of copies of the directions: the jvp of an argument that is written to overwrites its tangent
            forward_ad.make_dual(value, directions[i].clone()) if i in directions else value
            for i, value in enumerate(given)
        ]
        outputs = list(leaves(subject.case.function(*duals, **subject.case.kwargs)))
        unpacked = [forward_ad.unpack_dual(outputs[place]) for place in places]
        return [torch.zeros_like(value) if tangent is None else tangent.detach().clone() for value, tangent in unpacked]


_SCRIPT = "\n".join(
    [
        "import torch.autograd.forward_ad as fw",
        "args = [{inputs}]",
        "places = [i for i, x in enumerate(args) if isinstance(x, torch.Tensor) and x.requires_grad]",
        "u = {i: torch.linspace(1, 2, args[i].numel()).to(args[i].dtype).reshape(args[i].shape) for i in places}",
        "torch.manual_seed(0)",
        "out = {call}",
        "outputs = [o for o in (out if isinstance(out, tuple) else (out,)) if o.requires_grad]",
        "ones = [torch.ones_like(o) for o in outputs]",
        "grads = torch.autograd.grad(outputs, [args[i] for i in places], ones, allow_unused=True)",
        "print('backward:', sum((g * u[i]).sum().item() for g, i in zip(grads, places) if g is not None))",
        "with fw.dual_level():",
        "    torch.manual_seed(0)",
        "    duals = [fw.make_dual(x.detach(), u[i]) if i in u else x for i, x in enumerate(args)]",
        "    out = {function}(*duals)",
        "    tangents = [fw.unpack_dual(o).tangent for o in (out if isinstance(out, tuple) else (out,))]",
        "    print('jvp:', sum(t.sum().item() for t in tangents if t is not None))",
    ]
)
