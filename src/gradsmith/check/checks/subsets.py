"""Asks: are the gradients the same when only some of the inputs need one, and is only that computed?

Every input alone and every input left out (frozen weights, constant inputs); all subsets of up to three.
Cannot see: how much time a needless gradient costs.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch

from gradsmith.check.finding import Finding
from gradsmith.check.findings import finding
from gradsmith.check.inputs import Tensors
from gradsmith.check.isolation import Raised
from gradsmith.check.passes import Pass
from gradsmith.check.rounding import agree, gradient
from gradsmith.check.subject import Subject

CODES = ("subset-wrong", "needless-gradient")


def check(subject: Subject) -> Iterator[Finding]:
    needless: dict[int, tuple[int, ...]] = {}
    for wanted in _subsets(subject.arguments):
        names = ", ".join(f"`{subject.argument(i)}`" for i in wanted)
        subject.variations.append(f"only {names} with a gradient")
        needs = tuple(i in wanted for i in range(len(subject.inputs)))
        try:
            run = subject.forward(needs=needs)
            grads = subject.backward(run, _upstream_of(subject, run))
        except Raised as raised:
            yield _report(subject, wanted, wanted[0], f"the {raised}", raised)
            return
        for position in wanted:
            if not agree(subject, [subject.base_grads[position]], [grads[position]], gradient(position)):
                how = "None" if grads[position] is None else "another value"
                what = f"the gradient of `{subject.argument(position)}` is {how}"
                yield _report(subject, wanted, position, what, None)
                return
        for position in _computed(subject, run, wanted, grads):
            needless.setdefault(position, wanted)
    if needless:
        yield _needless(subject, needless)


def _subsets(arguments: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    count = len(arguments)
    sizes = range(1, count) if count <= 3 else (1, count - 1)
    for size in sizes:
        yield from itertools.islice(itertools.combinations(arguments, size), 12)


def _upstream_of(subject: Subject, run: Pass) -> list[torch.Tensor]:
    """The upstreams of those outputs that carry a gradient in this run: one that depends on none of the wanted
    arguments may be marked as not differentiable."""
    given = iter(subject.base_upstream)
    upstream = [next(given) if _carries(out) else None for out in subject.base.outputs]
    pairs = zip(upstream, run.outputs, strict=True)
    return [torch.ones_like(out) if up is None else up for up, out in pairs if _carries(out)]


def _carries(out: object) -> bool:
    return isinstance(out, torch.Tensor) and out.requires_grad


def _report(subject: Subject, wanted: tuple[int, ...], position: int, what: str, raised: Raised | None) -> Finding:
    names = ", ".join(f"`{subject.argument(i)}`" for i in wanted)
    return finding(
        subject,
        "subset-wrong",
        subject.argument(position),
        f"where only {names} need{'s' * (len(wanted) == 1)} a gradient, {what}",
        evidence={"need_a_gradient": [subject.argument(i) for i in wanted]},
        advice="ctx.needs_input_grad has one entry for each argument of forward, ctx left out: compare the "
        "indices, and save what each gradient needs by itself",
        raised=raised,
        show=_script(subject, wanted),
    )


def _computed(subject: Subject, run: Pass, wanted: tuple[int, ...], grads: Tensors) -> Iterator[int]:
    """Arguments that nobody asked a gradient of and for which `backward` computed one."""
    if not run.raw:
        return
    raw = run.raw[0]
    passed_on = {up.data_ptr() for up in raw.upstream if isinstance(up, torch.Tensor)}
    for position in set(subject.arguments) - set(wanted):
        grad = raw.returned[position] if position < len(raw.returned) else None
        if isinstance(grad, torch.Tensor) and grad.numel() > 1 and grad.data_ptr() not in passed_on:
            yield position


def _needless(subject: Subject, needless: dict[int, tuple[int, ...]]) -> Finding:
    positions = sorted(needless)
    names = ", ".join(f"`{subject.argument(position)}`" for position in positions)
    one = len(positions) == 1
    return finding(
        subject,
        "needless-gradient",
        subject.argument(positions[0]) if one else None,
        f"backward computes gradients of {names} also where nobody needs them",
        evidence={"arguments": [subject.argument(position) for position in positions]},
        advice=f"compute each only `if ctx.needs_input_grad[i]` (here i = {', '.join(map(str, positions))})",
    )


def _script(subject: Subject, wanted: tuple[int, ...]) -> str:
    chosen = list(wanted)
    return "\n".join(
        [
            "def gradients(chosen):",
            "    args = [x.detach() if isinstance(x, torch.Tensor) else x for x in ({inputs},)]",
            "    args = [x.requires_grad_() if i in chosen else x for i, x in enumerate(args)]",
            "    torch.manual_seed(0)",
            "    out = {function}(*[x.clone() if isinstance(x, torch.Tensor) else x for x in args])",
            "    outputs = [o for o in (out if isinstance(out, tuple) else (out,)) if o.requires_grad]",
            "    wanted = [args[i] for i in chosen]",
            "    ones = [torch.ones_like(o) for o in outputs]",
            "    return torch.autograd.grad(outputs, wanted, ones, allow_unused=True)",
            "",
            f"everything = gradients({list(subject.arguments)})",
            f"print([everything[i] for i in {[subject.arguments.index(i) for i in chosen]}])",
            f"print(gradients({chosen}))",
        ]
    )
