"""Asks: are the inputs and the upstream gradient left as they were?

Values are compared before and after, so that writes through raw pointers and NumPy are seen too. An input
that is marked dirty is returned by `forward` itself, and may change. Cannot see: a write that puts back the
same values.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from gradsmith.check.case import declaration
from gradsmith.check.finding import Finding
from gradsmith.check.findings import finding
from gradsmith.check.subject import Subject

CODES = ("input-mutated", "upstream-mutated")


def check(subject: Subject) -> Iterator[Finding]:
    run = subject.forward()
    returned = {id(out) for out in run.outputs}
    kept = {i: value.detach().clone() for i, value in enumerate(run.given) if isinstance(value, torch.Tensor)}
    for position, value in kept.items():
        before = subject.inputs[position]
        if id(run.given[position]) not in returned and not _equal(before, value):
            yield _input(subject, position, "forward")
    upstream = [up.clone() for up in subject.base_upstream]
    subject.backward(run, upstream, as_is=True)
    for up, before in zip(upstream, subject.base_upstream, strict=True):
        if not _equal(up, before):
            yield _upstream(subject)
            break
    for position, value in kept.items():
        if not _equal(run.given[position].detach(), value):
            yield _input(subject, position, "backward")


def _equal(left: torch.Tensor, right: torch.Tensor) -> bool:
    return left.shape == right.shape and bool(torch.isclose(left, right, rtol=0, atol=0, equal_nan=True).all())


def _input(subject: Subject, position: int, stage: str) -> Finding:
    name = subject.argument(position)
    loose = subject.needs[position] or stage == "backward"
    return finding(
        subject,
        "input-mutated",
        name,
        f"{stage} writes into `{name}`, and does not say so",
        severity="error" if loose else "warning",  # a buffer that is kept up to date, say running statistics
        evidence={"stage": stage},
        advice=_advice(subject, name, stage),
        where=stage,
        show=_script(stage),
    )


def _advice(subject: Subject, name: str, stage: str) -> str:
    if stage == "backward":
        return f"work on a copy ({name}.clone())"
    if declaration(subject.case.function_class) is not None:
        return f"work on a copy ({name}.clone()): the forward of an op writes to none of its arguments"
    return f"work on a copy ({name}.clone()), or call ctx.mark_dirty({name}) and return it"


def _upstream(subject: Subject) -> Finding:
    return finding(
        subject,
        "upstream-mutated",
        None,
        "backward writes into the gradient it is given, which other branches of the graph may still read",
        advice="never change grad_output in place: write `grad_output * mask`, not `grad_output.mul_(mask)`",
        show=_script("upstream"),
    )


def _script(what: str) -> str:
    return "\n".join(
        [
            "args = [x.clone() if isinstance(x, torch.Tensor) else x for x in ({inputs},)]",
            "before = [x.detach().clone() if isinstance(x, torch.Tensor) else x for x in args]",
            "out = {function}(*args)",
            "outputs = [o for o in (out if isinstance(out, tuple) else (out,)) if o.requires_grad]",
            "upstream = [torch.linspace(1, 2, o.numel()).to(o.dtype).reshape(o.shape) for o in outputs]",
            "sent = [u.clone() for u in upstream]",
            "torch.autograd.backward(outputs, upstream)",
            "for a, b in zip(args, before):",
            "    print('input changed:', isinstance(a, torch.Tensor) and not torch.equal(a.detach(), b))",
            "print('upstream changed:', [not torch.equal(u, s) for u, s in zip(upstream, sent)])",
        ]
    )
