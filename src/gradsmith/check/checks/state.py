"""Asks: does one call leave another alone, and does the same call give the same?

The backward twice on one graph; two graphs alive at once; all of it again from the same state of the generators, and
with other contents in the memory that torch allocates. Cannot see: threads; disturbance that needs more than two
calls; memory that others allocate.
"""

from __future__ import annotations

from collections.abc import Iterator

from gradsmith.check.compare import same_values
from gradsmith.check.finding import Finding
from gradsmith.check.findings import finding
from gradsmith.check.isolation import Raised
from gradsmith.check.judge import jittered
from gradsmith.check.subject import Subject
from gradsmith.check.unwritten import Unwritten, unwritten

CODES = ("not-repeatable", "shared-state", "nondeterministic", "cannot-tell")


def check(subject: Subject) -> Iterator[Finding]:
    subject.variations.append("with other values in memory that is allocated")
    left = unwritten(subject)
    if left is not None:
        yield _unwritten(subject, left)
        return
    if not subject.repeats:
        yield _unrepeatable_forward(subject)
        return
    exact = 10 * subject.tolerance.exact
    subject.variations.append("everything once more from the same random state")
    if not subject.steady:
        yield _nondeterministic(subject)
        return
    subject.variations.append("backward twice on one graph")
    twice = _twice(subject, exact)
    if twice is not None:
        yield twice
        return
    subject.variations.append("two graphs alive at once")
    yield from _interleaved(subject, exact)


def _twice(subject: Subject, exact: float) -> Finding | None:
    run = subject.forward()
    first = subject.backward(run, subject.base_upstream, retain_graph=True)
    what, raised = "gives other gradients", None
    try:
        if same_values(first, subject.backward(run, subject.base_upstream, retain_graph=True), exact):
            return None
    except Raised as error:
        what, raised = f"raises {type(error.error).__name__}: {error.error}".splitlines()[0], error
    return finding(
        subject,
        "not-repeatable",
        None,
        f"a second backward through the same graph (retain_graph=True) {what}",
        advice="leave what is saved as it is: nothing popped, freed or written to in backward",
        raised=raised,
        show=_TWICE,
    )


def _interleaved(subject: Subject, exact: float) -> Iterator[Finding]:
    other = subject.at(jittered(subject, 3), "moved by a few per cent")
    if other.failure is not None:
        return
    first = subject.forward()
    other.forward()
    try:
        got = subject.backward(first, subject.base_upstream)
        same = same_values(subject.base_grads, got, exact)
        what = "the first one's backward gives other gradients"
    except Raised as raised:
        same, what = False, f"the {raised}"
    if not same:
        yield finding(
            subject,
            "shared-state",
            None,
            f"after a second call of forward, {what}",
            advice="keep what backward needs on ctx, which belongs to one call, not on the class",
            show=_INTERLEAVED,
        )


def _nondeterministic(subject: Subject) -> Finding:
    return finding(
        subject,
        "nondeterministic",
        None,
        "the same call, its forward from the same random state, gives other gradients",
        advice="draw random numbers in forward and save them; sum in a fixed order",
        show=_TWICE,
    )


def _unwritten(subject: Subject, left: Unwritten) -> Finding:
    name = None if left.position is None else subject.argument(left.position)
    if left.raised is not None:
        what = f"the {left.raised}"
    else:
        which = f"the gradient for `{name}`" if left.output is None else _called(subject, left.output)
        what = f"{left.elements} of {left.of} elements of {which} are others"
    return finding(
        subject,
        "nondeterministic",
        name,
        "memory that was never written (torch.empty, empty_like, new_empty) is used as it came: with NaN in it "
        f"beforehand, {what}",
        evidence={"element": left.first, "elements": left.elements} if left.first else {},
        advice="allocate with zeros where not every element is written",
        where="forward" if left.in_forward else "backward",
        raised=left.raised,
        show=_FILLED,
    )


def _called(subject: Subject, place: int) -> str:
    return "the output" if len(subject.base.outputs) == 1 else f"output {place}"


def _unrepeatable_forward(subject: Subject) -> Finding:
    again = subject.forward().outputs
    small = same_values(subject.base.outputs, again, 1e-6)
    if small:
        return finding(
            subject,
            "nondeterministic",
            None,
            "the same call from the same random state gives slightly other outputs",
            advice="sum in a fixed order; torch.use_deterministic_algorithms(True) names torch's culprits",
            where="forward",
            show="print({call})\nprint({call})",
        )
    return finding(
        subject,
        "cannot-tell",
        None,
        "forward gives other outputs at each call, from the same state of every generator",
        advice="draw from torch's, NumPy's or Python's generator, or pass one as an argument",
        where="forward",
    )


_TWICE = "\n".join(
    [
        "out = {call}",
        "wanted = [x for x in ({inputs},) if isinstance(x, torch.Tensor) and x.requires_grad]",
        "outputs = [o for o in (out if isinstance(out, tuple) else (out,)) if o.requires_grad]",
        "ones = [torch.ones_like(o) for o in outputs]",
        "for _ in range(2):",
        "    print(torch.autograd.grad(outputs, wanted, ones, retain_graph=True, allow_unused=True))",
    ]
)

_FILLED = "\n".join(
    [
        "torch.use_deterministic_algorithms(True, warn_only=True)",
        "wanted = [x for x in ({inputs},) if isinstance(x, torch.Tensor) and x.requires_grad]",
        "for fill in (False, True):",
        "    torch.utils.deterministic.fill_uninitialized_memory = fill",
        "    out = {call}",
        "    outputs = [o for o in (out if isinstance(out, tuple) else (out,)) if o.requires_grad]",
        "    ones = [torch.ones_like(o) for o in outputs]",
        "    print(out, torch.autograd.grad(outputs, wanted, ones, allow_unused=True))",
    ]
)

_INTERLEAVED = "\n".join(
    [
        "wanted = [x for x in ({inputs},) if isinstance(x, torch.Tensor) and x.requires_grad]",
        "def gradients(between):",
        "    out = {call}",
        "    outputs = [o for o in (out if isinstance(out, tuple) else (out,)) if o.requires_grad]",
        "    between()",
        "    ones = [torch.ones_like(o) for o in outputs]",
        "    return torch.autograd.grad(outputs, wanted, ones, allow_unused=True)",
        "",
        "args = [x * 1.03 if isinstance(x, torch.Tensor) and x.requires_grad else x for x in ({inputs},)]",
        "print(gradients(lambda: None))",
        "print(gradients(lambda: {function}(*args)))",
    ]
)
