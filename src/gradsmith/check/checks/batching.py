"""Asks: does `torch.func.vmap` give what a loop over the batch gives, forward and backward?

Every tensor batched, one at a time batched, and the batch in the last dimension. Cannot see: nested vmap;
random forwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from gradsmith.check.case import declaration
from gradsmith.check.finding import Finding
from gradsmith.check.findings import finding
from gradsmith.check.isolation import Raised, seeded, user_code
from gradsmith.check.judge import jittered
from gradsmith.check.rounding import Upstream, agree, gradient
from gradsmith.check.subject import Subject
from gradsmith.check.tree import leaves

CODES = ("vmap-wrong", "no-vmap")
SIZE = 2


def check(subject: Subject) -> Iterator[Finding]:
    cls: Any = subject.case.function_class
    if cls is None or subject.random:
        return
    own = cls.vmap is not torch.autograd.Function.vmap
    if not own and not getattr(cls, "generate_vmap_rule", False):
        if declaration(cls) is None:
            yield finding(
                subject, "no-vmap", None, "vmap is refused: neither generate_vmap_rule nor a vmap method",
                advice="where forward and backward are torch operations: generate_vmap_rule = True and setup_context",
            )  # fmt: skip
        return
    where = "vmap" if own else "forward"
    others = [subject.inputs, *(jittered(subject, k) for k in range(1, SIZE))]
    for label, dims in _dimensions(subject):
        subject.variations.append(label)
        what = _compare(subject, others, dims)
        if what:
            yield finding(
                subject,
                "vmap-wrong",
                None,
                f"vmap with {label} {what}",
                evidence={"in_dims": [str(dim) for dim in dims]},
                advice="a vmap method gets the batch wherever in_dims says, None included, and returns (out, out_dims)",
                where=where,
                show=_script(dims),
            )
            return


def _dimensions(subject: Subject) -> Iterator[tuple[str, tuple[int | None, ...]]]:
    tensors = [i for i, value in enumerate(subject.inputs) if isinstance(value, torch.Tensor)]
    count = len(subject.inputs)
    yield "every tensor batched", tuple(0 if i in tensors else None for i in range(count))
    if all(subject.inputs[i].dim() for i in tensors):
        yield "the batch in the last dimension", tuple(-1 if i in tensors else None for i in range(count))
    if len(tensors) > 1:
        for only in subject.arguments[:3]:
            yield f"only `{subject.argument(only)}` batched", tuple(0 if i == only else None for i in range(count))


def _compare(subject: Subject, points: list[tuple[Any, ...]], dims: tuple[int | None, ...]) -> str:
    """What differs between vmap and the loop; nothing where they agree or the loop itself cannot run."""
    batched = [i for i, dim in enumerate(dims) if dim is not None]
    function = subject.case.function

    def at(k: int) -> tuple[Any, ...]:
        return tuple(points[k][i] if i in batched else value for i, value in enumerate(subject.inputs))

    try:
        loop = [subject.vjp(at(k), subject.base_upstream) for k in range(SIZE)]
    except Raised:
        return ""
    stacked = [
        torch.stack([points[k][i].detach() for k in range(SIZE)], int(dims[i] or 0)) if i in batched else value
        for i, value in enumerate(subject.inputs)
    ]
    wanted = [i for i in subject.arguments if i in batched]
    for i in wanted:
        stacked[i] = stacked[i].requires_grad_()
    try:
        with seeded(), user_code("vmap"):
            out = list(leaves(torch.func.vmap(function, in_dims=dims)(*stacked)))
    except Raised as raised:
        return f"fails: {raised}"
    places = [i for i, value in enumerate(subject.base.outputs) if isinstance(value, torch.Tensor)]
    expected: list[Any] = [torch.stack([run.outputs[i].detach() for run, _ in loop]) for i in places]

    def outputs(at: Subject, _: Upstream) -> list[Any]:
        return [at.base.outputs[i] for i in places]

    if not agree(subject, expected, [out[i] for i in places], outputs):
        return "gives other outputs than a loop"
    differentiable = [i for i in places if subject.base.outputs[i].requires_grad]
    upstream = [torch.stack([up] * SIZE) for up in subject.base_upstream]
    try:
        with seeded(), user_code("backward of vmap"):
            grads = torch.autograd.grad(
                [out[i] for i in differentiable], [stacked[i] for i in wanted], upstream, allow_unused=True
            )
    except Raised as raised:
        return f"fails: {raised}"
    for i, grad in zip(wanted, grads, strict=True):
        zero = torch.zeros_like(subject.inputs[i])
        each = torch.stack([_or(g[i], zero) for _, g in loop], int(dims[i] or 0))
        if not agree(subject, [each], [grad], gradient(i)):
            return f"gives another gradient for `{subject.argument(i)}` than a loop"
    return ""


def _or(grad: torch.Tensor | None, zero: torch.Tensor) -> torch.Tensor:
    return zero if grad is None else grad


def _script(dims: tuple[int | None, ...]) -> str:
    return "\n".join(
        [
            "args = [x.detach() if isinstance(x, torch.Tensor) else x for x in ({inputs},)]",
            f"dims = {dims}",
            "stacked = [x if d is None else torch.stack([x, 1.1 * x], d) for x, d in zip(args, dims)]",
            "print(torch.func.vmap({function}, in_dims=dims)(*stacked))",
            "print({function}(*args))",
            "print({function}(*[x if d is None else 1.1 * x for x, d in zip(args, dims)]))",
        ]
    )
