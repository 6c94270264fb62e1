"""Asks: does the backward work when an output is not used?

Each output alone and each output left out must give what zeros in the place of the unused would. Cannot see:
a Function with one output only, whose upstream is always there.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch

from gradsmith.check.finding import Finding
from gradsmith.check.findings import finding
from gradsmith.check.isolation import Raised
from gradsmith.check.rounding import agree, gradients
from gradsmith.check.subject import Subject

CODES = ("undefined-upstream",)


def check(subject: Subject) -> Iterator[Finding]:
    count = len(subject.base.differentiable)
    for size in range(1, count) if count <= 4 else (1, count - 1):
        for used in itertools.combinations(range(count), size):
            subject.variations.append(f"only output {', '.join(map(str, used))} used")
            what, raised = _without(subject, used)
            if what:
                yield finding(
                    subject,
                    "undefined-upstream",
                    None,
                    f"where only output {', '.join(map(str, used))} of {count} is used, {what}",
                    evidence={"used_outputs": list(used), "outputs": count},
                    advice="with set_materialize_grads(False) an upstream gradient may be None: "
                    "ask `if grad is not None` for each of them",
                    raised=raised,
                    show=_script(used),
                )
                return


def _without(subject: Subject, used: tuple[int, ...]) -> tuple[str, Raised | None]:
    upstream = list(subject.base_upstream)
    zeros = [up if i in used else torch.zeros_like(up) for i, up in enumerate(upstream)]
    alone = [up if i in used else None for i, up in enumerate(upstream)]
    expected = subject.gradients(zeros)
    try:
        got = subject.gradients(alone)
    except Raised as raised:
        return f"the {raised}", raised
    if not agree(subject, expected, got, gradients, zeros):
        return "the gradients are others than with zeros for the rest", None
    return "", None


def _script(used: tuple[int, ...]) -> str:
    return "\n".join(
        [
            "out = {call}",
            "wanted = [x for x in ({inputs},) if isinstance(x, torch.Tensor) and x.requires_grad]",
            "outputs = [o for o in out if o.requires_grad]",
            f"zeros = [torch.full_like(o, i in {list(used)}) for i, o in enumerate(outputs)]",
            "print(torch.autograd.grad(outputs, wanted, zeros, retain_graph=True, allow_unused=True))",
            f"used = [outputs[i] for i in {list(used)}]",
            "print(torch.autograd.grad(used, wanted, [torch.ones_like(o) for o in used], allow_unused=True))",
        ]
    )
