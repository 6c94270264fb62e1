"""Asks: does torch.compile keep the gradient?

Costs seconds, so it is asked only where its codes are named. Cannot see: what inductor makes of it; dynamic
shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from gradsmith.check._private import uses_setup_context
from gradsmith.check.compare import same_values
from gradsmith.check.finding import Finding
from gradsmith.check.findings import finding
from gradsmith.check.isolation import Raised, seeded, user_code
from gradsmith.check.rounding import agree, gradients, outputs
from gradsmith.check.subject import Subject

CODES = ("compile-wrong", "no-compile", "framework-bug")
KNOWN = "https://github.com/pytorch/pytorch/issues/193279"


def check(subject: Subject) -> Iterator[Finding]:
    function = subject.case.function
    if subject.case.function_class is None or subject.random:
        return

    def call(*args: Any) -> Any:
        return function(*args)

    torch.compiler.reset()
    compiled = torch.compile(call, backend="aot_eager", fullgraph=True)
    for label, upstream in (("a random upstream", subject.base_upstream), ("an expanded upstream", _ones(subject))):
        subject.variations.append(label)
        expected = subject.gradients(upstream, as_is=True)
        try:
            run = subject.forward(function=compiled, stage="torch.compile", spied=False)
            got = subject.backward(run, upstream, as_is=True, spied=False)
        except Raised as raised:
            yield finding(
                subject, "no-compile", None, f"torch.compile(fullgraph=True) refuses it: {raised}",
                advice="nothing to do, unless it is to be compiled in one piece",
            )  # fmt: skip
            return
        same = agree(subject, subject.base.outputs, run.outputs, outputs)
        if not same or not agree(subject, expected, got, gradients, upstream):
            yield finding(
                subject, "compile-wrong", None, f"compiled, with {label}, it gives something else than eager",
                evidence={"backend": "aot_eager", "upstream": label},
                advice="let neither forward nor backward depend on strides, data pointers or global state",
                show=_SCRIPT,
            )  # fmt: skip
            return
    if uses_setup_context(subject.case.function_class) and _rule_dropped(subject, call):
        yield finding(
            subject, "framework-bug", None,
            "torch.compile of torch.func.grad ignores the backward and differentiates the forward instead",
            evidence={"thread": KNOWN},
            advice="call the compiled function from torch.func.grad, not the other way round; gs.op is not affected",
        )  # fmt: skip


def _ones(subject: Subject) -> tuple[torch.Tensor, ...]:
    """What `out.sum().backward()` sends: one value for all elements, stored once."""
    return tuple(out.new_ones(()).expand(out.shape) for out in subject.base.differentiable)


def _rule_dropped(subject: Subject, call: Callable[..., Any]) -> bool:
    """Whether func.grad inside torch.compile gives another gradient than outside."""
    arguments = subject.arguments

    def total(*args: Any) -> torch.Tensor:
        out = call(*args)
        outputs = out if isinstance(out, tuple) else (out,)
        return torch.stack([o.sum() for o in outputs if isinstance(o, torch.Tensor) and o.is_floating_point()]).sum()

    gradient = torch.func.grad(total, argnums=arguments)
    inputs = tuple(v.detach() if isinstance(v, torch.Tensor) else v for v in subject.inputs)
    try:
        with seeded(), user_code("torch.func.grad"):
            eager = gradient(*inputs)
            compiled = torch.compile(gradient, backend="aot_eager", fullgraph=True)(*inputs)
    except Raised:
        return False
    return not same_values(eager, compiled, 100 * subject.tolerance.exact)


_SCRIPT = "\n".join(
    [
        "wanted = [x for x in ({inputs},) if isinstance(x, torch.Tensor) and x.requires_grad]",
        "compiled = torch.compile(lambda *args: {function}(*args), backend='aot_eager', fullgraph=True)",
        "for call in ({function}, compiled):",
        "    out = call({inputs})",
        "    total = sum(o.sum() for o in (out if isinstance(out, tuple) else (out,)) if o.requires_grad)",
        "    print(torch.autograd.grad(total, wanted, allow_unused=True))",
    ]
)
