"""Asks: do results depend on how inputs and upstream lie in memory?

The same values transposed, strided, offset and (images) channels-last must give the same outputs and gradients;
an expanded upstream (what `out.sum().backward()` sends) the same as its contiguous copy. A forward that refuses a
layout is counted, not reported; so are elements that share memory in an argument that is written to. Cannot see:
layouts that overlap otherwise; what shows only at values that such a layout cannot hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch

from gradsmith.check.compare import same_values
from gradsmith.check.finding import Finding
from gradsmith.check.findings import finding
from gradsmith.check.inputs import moved
from gradsmith.check.isolation import Raised
from gradsmith.check.layouts import SHARED, Layout, layouts_of
from gradsmith.check.oracle import random_direction
from gradsmith.check.rounding import agree, gradients, outputs
from gradsmith.check.subject import Subject
from gradsmith.check.tree import map_tensors, tensors

CODES = ("layout-dependent",)


def check(subject: Subject) -> Iterator[Finding]:
    if subject.draws:
        subject.refused.append("layouts: a random backward draws in the order of the memory")
        return
    yield from _inputs(subject)
    yield from _upstream(subject)


def _inputs(subject: Subject) -> Iterator[Finding]:
    if subject.random:
        subject.refused.append("layouts of the inputs: a random forward draws in the order of the memory")
        return
    positions = [i for i, value in enumerate(subject.inputs) if any(x.numel() > 1 for x in tensors(value))]
    for position in [i for i in positions if i > 0 and _written_to(subject, i)]:
        # For a view that is written to, torch takes the first gradient for its, whichever argument it is.
        subject.refused.append(f"layouts of `{subject.argument(position)}`: torch supports it only as first argument")
        positions.remove(position)
    reported: set[int] = set()
    for name, lay_out in layouts_of(tensors([subject.inputs[i] for i in positions])).items():
        subject.variations.append(f"{name} inputs")
        if not positions or _with_inputs(subject, positions, lay_out) == "":
            continue
        for position in positions:
            what = _with_inputs(subject, [position], lay_out)
            if what and position not in reported:
                reported.add(position)
                yield _report(subject, position, name, what)
    yield from _shared(subject, [i for i in positions if i not in reported and not _written_to(subject, i)])


def _shared(subject: Subject, positions: Sequence[int]) -> Iterator[Finding]:
    """Inputs whose elements share memory, beside contiguous ones of the same values."""
    for name, lay_out in SHARED.items():
        for position in positions:
            inputs = list(subject.inputs)
            inputs[position] = map_tensors(_values_of(lay_out), inputs[position])
            at = subject.at(tuple(inputs), f"{name} values in `{subject.argument(position)}`")
            if not at.base_runs or at.failure is not None:
                continue
            subject.variations.append(f"`{subject.argument(position)}` {name}")
            what = _with_inputs(at, [position], lay_out)
            if what and not _tie(at):
                yield _report(at, position, name, what)
                return


def _values_of(lay_out: Layout) -> Layout:
    return lambda tensor: lay_out(tensor.detach()).contiguous().clone()


def _tie(at: Subject) -> bool:
    """Whether the repeated values lie on a kink, say of a maximum: there any of several gradients is right."""
    loose = 10 * at.tolerance.relative
    for which in range(2):
        near = at.at(_close_by(at, 80 + which), "close by")
        if not near.base_runs or near.failure is not None:
            return True
        same = same_values(at.base.outputs, near.base.outputs, loose)
        if not same or not same_values(at.base_grads, near.base_grads, loose):
            return True
    return False


def _close_by(at: Subject, draw: int) -> tuple[object, ...]:
    step = 0.01 * at.tolerance.step
    return moved(at.inputs, at.arguments, lambda i, x: x + step * random_direction(x, draw + 10 * i))


def _written_to(subject: Subject, position: int) -> bool:
    return any(subject.base.given[position] is out for out in subject.base.outputs)


def _with_inputs(subject: Subject, positions: Sequence[int], lay_out: Layout) -> str:
    """What is wrong with these inputs laid out so; nothing where all is well or the forward refuses."""
    try:
        run = subject.forward(arrange=dict.fromkeys(positions, lay_out))
    except Raised:
        return ""
    if not agree(subject, subject.base.outputs, run.outputs, outputs):
        return "the forward gives other values"
    try:
        grads = subject.backward(run, subject.base_upstream)
    except Raised as raised:
        return f"the {raised}"
    if not agree(subject, subject.base_grads, grads, gradients):
        return "the backward gives other gradients"
    return ""


def _report(subject: Subject, position: int, layout: str, what: str) -> Finding:
    name = subject.argument(position)
    return finding(
        subject,
        "layout-dependent",
        name,
        f"with `{name}` {layout} in memory, same values, {what}",
        evidence={"layout": layout, "argument": name},
        advice=f"call {name}.contiguous() before code that reads memory in order; reshape(), not view()",
        where="forward" if "forward" in what else "backward",
        show=_script(layout, name),
    )


def _upstream(subject: Subject) -> Iterator[Finding]:
    plain = subject.base_upstream
    layouts: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {**layouts_of(plain), "expanded": _expanded}
    for name, lay_out in layouts.items():
        subject.variations.append(f"{name} upstream")
        values = [lay_out(up) for up in plain]
        same = [up.clone(memory_format=torch.contiguous_format) for up in values]
        expected = subject.gradients(same)
        try:
            got = subject.gradients(values, as_is=True)
        except Raised as raised:
            what = f"the {raised}"
        else:
            if agree(subject, expected, got, gradients, same):
                continue
            what = "the backward gives other gradients"
        yield finding(
            subject,
            "layout-dependent",
            None,
            f"with the upstream gradient {name} in memory, same values, {what}",
            evidence={"layout": name, "argument": "the upstream gradient"},
            advice="call grad_output.contiguous() before code that reads memory in order; no view()",
            show=_script(name, None),
        )
        return


def _expanded(tensor: torch.Tensor) -> torch.Tensor:
    """One value for all elements, stored once: what `sum().backward()` sends."""
    return tensor.reshape(-1)[:1].reshape([1] * tensor.dim()).expand(tensor.shape) if tensor.numel() else tensor


_SOURCE = {
    "transposed": "x.mT.contiguous().mT if x.dim() > 1 else torch.stack([x, x], -1)[..., 0]",
    "strided": "torch.stack([x, x], -1)[..., 0]",
    "offset": "torch.cat([x.reshape(-1)[:1], x.reshape(-1)])[1:].reshape(x.shape)",
    "channels-last": "x.clone(memory_format=torch.channels_last if x.dim() == 4 else torch.preserve_format)",
    "broadcast": "next(x.narrow(d, 0, 1).expand_as(x) for d, size in enumerate(x.shape) if size > 1)",
    "overlapping": "torch.cat([x[..., 0, :], x[..., 1:, -1]], -1).unfold(-1, x.shape[-1], 1) if x.dim() > 1 else x",
    "expanded": "x.reshape(-1)[:1].reshape([1] * x.dim()).expand(x.shape)",
}


def _script(layout: str, argument: str | None) -> str:
    """Both calls, printed one above the other; an argument that shares memory is one of its own, with its gradient."""
    change = "change_input(x)" if layout not in SHARED else "change_input(x.detach()).requires_grad_(x.requires_grad)"
    wanted = "    wanted = [x for x in args if isinstance(x, torch.Tensor) and x.requires_grad]"
    lines = [
        "def lay_out(x):",
        f"    return {_SOURCE[layout]}",
        "",
        "def gradients(change_input, change_upstream):",
        "    args = [{inputs}]",
        *([wanted] if layout not in SHARED else []),
        "    torch.manual_seed(0)",
        f"    args = [{change} if isinstance(x, torch.Tensor) and x.numel() > 1 else x for x in args]",
        *([wanted] if layout in SHARED else []),
        "    out = {function}(*args)",
        "    outputs = [o for o in (out if isinstance(out, tuple) else (out,)) if o.requires_grad]",
        "    upstream = [torch.linspace(1, 2, o.numel()).to(o.dtype).reshape(o.shape) for o in outputs]",
        "    upstream = [change_upstream(u) for u in upstream]",
        "    return torch.autograd.grad(outputs, wanted, upstream, allow_unused=True)",
        "",
    ]
    if argument is not None:
        lines += [
            "print(gradients(lambda x: lay_out(x).contiguous().clone(), lambda u: u))",
            "print(gradients(lay_out, lambda u: u))",
        ]
    else:
        lines += [
            "print(gradients(lambda x: x.clone(), lambda u: lay_out(u).contiguous()))",
            "print(gradients(lambda x: x.clone(), lay_out))",
        ]
    return "\n".join(lines)
