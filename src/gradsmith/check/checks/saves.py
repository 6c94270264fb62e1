"""Asks: is what backward needs kept where autograd can see it?

A tensor kept as an attribute of `ctx` is out of reach of saved-tensor hooks (offloading, checkpointing); an
output kept so makes a cycle that only the garbage collector frees; an input kept so may change later and
nobody notices. One finding for each such tensor, the gravest that applies. Cannot see: tensors hidden in
other objects.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import torch

from gradsmith.check.compare import same_values
from gradsmith.check.finding import Finding
from gradsmith.check.findings import finding
from gradsmith.check.isolation import Raised
from gradsmith.check.measured import saved
from gradsmith.check.passes import Pass
from gradsmith.check.subject import Subject
from gradsmith.check.tree import tensors

CODES = ("leak", "stale-save", "unhooked-save")


def check(subject: Subject) -> Iterator[Finding]:
    kept = _kept_on_context(subject)
    leaking = _leaks(subject)
    if leaking:
        name = next((name for name, of in kept.items() if of == "an output"), None)
        yield _leak(subject, name)
        kept = {other: of for other, of in kept.items() if of != "an output"}
    for position in _stale_inputs(subject):
        yield _stale(subject, position)
        name = f"`{subject.argument(position)}`"
        kept = {other: of for other, of in kept.items() if of != name}
    for name, of in kept.items():
        yield _unhooked(subject, name, of)


def node_of(subject: Subject, run: Pass) -> Any:
    """The Function's own node, which is the `ctx` of its call; None where an output is not directly its."""
    cls = subject.case.function_class
    for out in run.differentiable:
        if cls is not None and type(out.grad_fn).__name__ == f"{cls.__name__}Backward":
            return out.grad_fn
    return None


def _kept_on_context(subject: Subject) -> dict[str, str]:
    """Attributes of `ctx` that hold tensors, and what they are: an input, an output, an intermediate."""
    run = subject.forward()
    node = node_of(subject, run)
    kept: dict[str, str] = {}
    for name, value in getattr(node, "__dict__", {}).items():
        for tensor in tensors(value):
            if tensor.numel() > 1:
                kept[name] = _what_is(subject, run, tensor)
                subject.measured.append(
                    saved(subject.case.name, f"ctx.{name}, {kept[name]}", tensor, "the graph is gone")
                )
    return kept


def _what_is(subject: Subject, run: Pass, tensor: torch.Tensor) -> str:
    for out in run.outputs:
        if isinstance(out, torch.Tensor) and out.data_ptr() == tensor.data_ptr():
            return "an output"
    for position, value in enumerate(run.given):
        if isinstance(value, torch.Tensor) and value.data_ptr() == tensor.data_ptr():
            return f"`{subject.argument(position)}`"
    return "an intermediate"


def _leaks(subject: Subject) -> bool:
    """Whether an output outlives its last reference."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        run = subject.forward()
        fresh_inputs = {id(value) for value in run.given}
        watched = [weakref.ref(out) for out in run.differentiable if id(out) not in fresh_inputs]
        del run
        return any(reference() is not None for reference in watched)
    finally:
        if enabled:
            gc.enable()


def _stale_inputs(subject: Subject) -> Iterator[int]:
    """Inputs that, changed between forward and backward, change the gradients without an error."""
    for position, value in enumerate(subject.inputs):
        if not isinstance(value, torch.Tensor) or not value.is_floating_point() or not value.numel():
            continue
        run = subject.forward()
        given = run.given[position]
        if any(given is out for out in run.outputs):
            continue
        with torch.no_grad():
            given.detach().mul_(0.7).add_(0.11)
        try:
            grads = subject.backward(run, subject.base_upstream)
        except Raised:
            continue
        if not same_values(subject.base_grads, grads, 100 * subject.tolerance.exact):
            yield position


def _leak(subject: Subject, name: str | None) -> Finding:
    kept = f": ctx.{name} is one of its outputs, which points back at ctx" if name else ""
    return finding(
        subject,
        "leak",
        None,
        f"a call keeps its outputs alive until the garbage collector runs{kept}",
        evidence={"attribute": name} if name else {},
        advice="keep outputs with ctx.save_for_backward, never as attributes, nor in a global",
        where="forward",
        show=_LEAK,
    )


def _stale(subject: Subject, position: int) -> Finding:
    name = subject.argument(position)
    return finding(
        subject,
        "stale-save",
        name,
        f"when `{name}` changes between forward and backward, the gradients change and nothing says so",
        advice=f"keep `{name}` with ctx.save_for_backward, which notices",
        where="forward",
        show=_STALE.replace("POSITION", str(position)),
    )


def _unhooked(subject: Subject, name: str, of: str) -> Finding:
    return finding(
        subject,
        "unhooked-save",
        None,
        f"ctx.{name} keeps {of} out of reach of saved-tensor hooks (offloading, checkpointing)",
        evidence={"attribute": name, "tensor": of},
        advice="keep tensors with ctx.save_for_backward; attributes are for what is no tensor",
        where="forward",
    )


_LEAK = "\n".join(
    [
        "import gc, weakref",
        "gc.disable()",
        "out = {call}",
        "outputs = out if isinstance(out, tuple) else (out,)",
        "watched = [weakref.ref(o) for o in outputs]",
        "del out, outputs",
        "print('still alive:', [w() is not None for w in watched])",
    ]
)

_STALE = "\n".join(
    [
        "wanted = [x for x in ({inputs},) if isinstance(x, torch.Tensor) and x.requires_grad]",
        "for change in (False, True):",
        "    args = [x.clone() if isinstance(x, torch.Tensor) else x for x in ({inputs},)]",
        "    out = {function}(*args)",
        "    outputs = [o for o in (out if isinstance(out, tuple) else (out,)) if o.requires_grad]",
        "    if change:",
        "        args[POSITION].detach().mul_(0.7).add_(0.11)",
        "    ones = [torch.ones_like(o) for o in outputs]",
        "    print(torch.autograd.grad(outputs, wanted, ones, allow_unused=True))",
    ]
)
