"""Asks: do results depend on how inputs and upstream lie in memory?

The same values transposed, strided, offset and (images) channels-last must give the same outputs and gradients;
an expanded upstream (what `out.sum().backward()` sends) the same as its contiguous copy. A forward that refuses a
layout is counted, not reported. Cannot see: negative strides, layouts that overlap otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch

from gradsmith.check.finding import Finding
from gradsmith.check.findings import finding
from gradsmith.check.isolation import Raised
from gradsmith.check.layouts import Layout, layouts_of
from gradsmith.check.rounding import agree, gradients, outputs
from gradsmith.check.subject import Subject

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
    tensors = [i for i, value in enumerate(subject.inputs) if isinstance(value, torch.Tensor) and value.numel() > 1]
    for position in [i for i in tensors if i > 0 and _written_to(subject, i)]:
        # For a view that is written to, torch takes the first gradient for its, whichever argument it is.
        subject.refused.append(f"layouts of `{subject.argument(position)}`: torch supports it only as first argument")
        tensors.remove(position)
    reported: set[int] = set()
    for name, lay_out in layouts_of(subject.inputs[i] for i in tensors).items():
        subject.variations.append(f"{name} inputs")
        if not tensors or _with_inputs(subject, tensors, lay_out) == "":
            continue
        for position in tensors:
            what = _with_inputs(subject, [position], lay_out)
            if what and position not in reported:
                reported.add(position)
                yield _report(subject, position, name, what)


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
        expected = subject.backward(subject.base, same, retain_graph=True)
        try:
            got = subject.backward(subject.base, values, retain_graph=True, as_is=True)
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
    "expanded": "x.reshape(-1)[:1].reshape([1] * x.dim()).expand(x.shape)",
}


def _script(layout: str, argument: str | None) -> str:
    """Both calls, printed one above the other."""
    lines = [
        "def lay_out(x):",
        f"    return {_SOURCE[layout]}",
        "",
        "def gradients(change_input, change_upstream):",
        "    args = [{inputs}]",
        "    wanted = [x for x in args if isinstance(x, torch.Tensor) and x.requires_grad]",
        "    torch.manual_seed(0)",
        "    args = [change_input(x) if isinstance(x, torch.Tensor) and x.numel() > 1 else x for x in args]",
        "    out = {function}(*args)",
        "    outputs = [o for o in (out if isinstance(out, tuple) else (out,)) if o.requires_grad]",
        "    upstream = [torch.linspace(1, 2, o.numel()).to(o.dtype).reshape(o.shape) for o in outputs]",
        "    upstream = [change_upstream(u) for u in upstream]",
        "    return torch.autograd.grad(outputs, wanted, upstream, allow_unused=True)",
        "",
    ]
    if argument is not None:
        lines += [
            "print(gradients(lambda x: x.clone(), lambda u: u))",
            "print(gradients(lay_out, lambda u: u))",
        ]
    else:
        lines += [
            "print(gradients(lambda x: x.clone(), lambda u: lay_out(u).contiguous()))",
            "print(gradients(lambda x: x.clone(), lay_out))",
        ]
    return "\n".join(lines)
