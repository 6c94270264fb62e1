"""Asks: does a `jvp` agree with the backward?

By the adjoint identity <v, Ju> = <J'v, u>, which needs no step size. Only where the backward itself is
right, so that one fault is not named twice. Cannot see: nested forward mode.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.autograd import forward_ad

from gradsmith.check.deliberate import sort_out
from gradsmith.check.finding import Finding
from gradsmith.check.findings import finding
from gradsmith.check.inputs import fresh
from gradsmith.check.isolation import Raised, seeded, user_code
from gradsmith.check.oracle import inner, random_direction, size_of
from gradsmith.check.subject import Subject
from gradsmith.check.tree import leaves

CODES = ("jvp-wrong", "no-jvp")


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
    directions = {position: random_direction(subject.inputs[position], 60) for position in subject.arguments}
    try:
        tangents = _tangents(subject, directions)
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
    forward = sum(inner(up, tangent) for up, tangent in zip(subject.base_upstream, tangents, strict=True))
    pairs = [(subject.base_grads[position], direction) for position, direction in directions.items()]
    backward = sum(inner(grad, direction) for grad, direction in pairs if grad is not None)
    size = max(size_of([grad], [direction]) for grad, direction in pairs if grad is not None)
    if abs(forward - backward) > 5 * subject.tolerance.relative * max(size, abs(forward), abs(backward)):
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
