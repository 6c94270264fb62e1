"""Asks: in half precision, is the gradient as near the truth as rounding allows?

In bfloat16, float16 and float32 the gradient is compared with the float64 gradient at the same (rounded)
values, and its error with that of torch's own autodiff of the same forward: the largest one, and the root of
the mean square where there are elements enough for one. Upstreams of one sign bring out sums that stall. Under
autocast the backward must run. Cannot see: errors that only sums over many more elements bring out.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from gradsmith.check.compare import scale
from gradsmith.check.finding import Finding
from gradsmith.check.findings import finding
from gradsmith.check.inputs import Tensors, moved, to_dtype
from gradsmith.check.isolation import Raised, user_code
from gradsmith.check.judge import judge
from gradsmith.check.oracle import autodiff, random_direction, replay_of, wide
from gradsmith.check.rounding import gradient, rounding_in
from gradsmith.check.subject import Subject

CODES = ("low-precision",)
DRAWS = 3  # roundings of the inputs that are tried
DTYPES = ((torch.bfloat16, False), (torch.bfloat16, True), (torch.float16, False), (torch.float32, False))


def check(subject: Subject) -> Iterator[Finding]:
    if subject.dtype != torch.float64:
        subject.refused.append("lower precisions: without float64 there is nothing to compare with")
        return
    if any(isinstance(value, torch.Tensor) and value.is_complex() for value in subject.inputs):
        subject.refused.append("lower precisions: complex half is experimental in torch")
        return
    right = [position for position in subject.arguments if judge(subject, position).verdict == "right"]
    if not right or subject.random:
        return
    for dtype, one_sided in DTYPES:
        found = _in(subject, dtype, one_sided, right)
        if found is not None:
            yield found
            return
    found = _autocast(subject)
    if found is not None:
        yield found


def _in(subject: Subject, dtype: torch.dtype, one_sided: bool, right: list[int]) -> Finding | None:
    low = subject.at(to_dtype(subject.inputs, dtype), f"in {_short(dtype)}")
    exact = subject.at(to_dtype(low.inputs, torch.float64), "in float64 at the rounded values")
    if not low.base_runs or not low.base.differentiable:
        return None
    if any(out.dtype != dtype or not bool(torch.isfinite(out).all()) for out in low.base.differentiable):
        return None
    try:  # by hand and not from `exact.base`, whose graph would be kept
        run = exact.forward()
        upstream = [(up.abs() if one_sided else up).to(dtype) for up in exact.upstream(run.differentiable)]
        truth = exact.backward(run, _wide(upstream))
    except Raised:
        return None
    del run
    subject.variations.append(low.label)
    try:
        got = low.backward(low.base, upstream)
    except Raised as raised:
        return _raises(low, raised)
    native, rounded = _native(low, upstream), [_rounded(exact, upstream, dtype, which) for which in range(DRAWS)]
    eps = torch.finfo(dtype).eps
    for position in right:
        others = [grads[position] for grads in rounded]
        if native is not None and judge(subject, position).oracle == "replay":
            others.append(native[position])
        for error, allowed in ((_largest_error, 24), (_mean_error, 6)):
            off = error(got[position], truth[position])
            usual = max(error(other, truth[position]) for other in others)
            if off > max(4 * usual, allowed * eps):
                if _size(truth[position]) <= rounding_in(exact, gradient(position), _wide(upstream))[0]:
                    name = subject.argument(position)
                    subject.refused.append(f"{low.label}: the gradient for `{name}` is zero but for its rounding")
                    break
                return _imprecise(low, position, off, usual, dtype)
    return None


def _native(low: Subject, upstream: list[torch.Tensor]) -> Tensors | None:
    """The gradients by torch's own autodiff of the same forward, in the same precision."""
    replay = replay_of(low.case)
    if replay is None:
        return None
    try:
        return autodiff(low, replay, upstream)
    except Raised:
        return None


def _rounded(exact: Subject, upstream: list[torch.Tensor], dtype: torch.dtype, which: int) -> Tensors:
    """The exact gradients at inputs that are off by one rounding: what no formula can do better than."""
    eps = torch.finfo(dtype).eps
    nearby = moved(exact.inputs, exact.arguments, lambda i, x: x + eps * random_direction(x, 70 + which + DRAWS * i))
    try:
        return exact.vjp(nearby, _wide(upstream))[1]
    except (Raised, ValueError):
        return exact.base_grads


def _size(grad: torch.Tensor | None) -> float:
    return 0.0 if grad is None else scale(torch.nan_to_num(grad, 0.0, 0.0, 0.0))


def _wide(upstream: list[torch.Tensor]) -> list[torch.Tensor]:
    return [up.to(torch.float64) for up in upstream]


def _largest_error(got: torch.Tensor | None, truth: torch.Tensor | None) -> float:
    """The largest deviation, relative to the scale of the truth; infinite where `got` alone is no number."""
    if got is None or truth is None:
        return 0.0
    size = _size(truth)
    finite = torch.isfinite(truth)
    if bool((finite & ~torch.isfinite(got)).any()):
        return float("inf") if size < 1e4 else 0.0  # beyond the range of float16
    off = torch.where(finite, (wide(got) - wide(truth)).abs(), torch.zeros_like(truth.abs()))
    return scale(off) / size if size else 0.0


def _mean_error(got: torch.Tensor | None, truth: torch.Tensor | None) -> float:
    """The root of the mean square of the deviations, relative to that of the truth; of 8 elements and more."""
    if got is None or truth is None or truth.numel() < 8:
        return 0.0
    finite = torch.isfinite(truth) & torch.isfinite(got)
    true = wide(truth.detach())[finite]
    off, size = (wide(got.detach())[finite] - true).abs().square().sum(), true.abs().square().sum()
    return float((off / size).sqrt()) if float(size) else 0.0


def _imprecise(low: Subject, position: int, off: float, usual: float, dtype: torch.dtype) -> Finding:
    name = low.argument(position)
    return finding(
        low,
        "low-precision",
        name,
        f"in {_short(dtype)} the gradient for `{name}` is off by {off:.2g} of its scale; rounding explains {usual:.2g}",
        evidence={"dtype": _short(dtype), "error": off, "error_that_rounding_explains": usual},
        advice="compute sums, means and exponentials in float32 and cast the result back",
    )


def _raises(low: Subject, raised: Raised) -> Finding:
    return finding(
        low,
        "low-precision",
        None,
        f"{low.label} the forward works and the {raised}",
        advice="bring saved tensors and the upstream gradient to one dtype before combining them",
        raised=raised,
    )


def _autocast(subject: Subject) -> Finding | None:
    """A note where the backward does not run after a forward under autocast."""
    single = subject.at(to_dtype(subject.inputs, torch.float32), "under autocast")
    if single.failure is not None:
        return None
    device = next((v.device.type for v in subject.inputs if isinstance(v, torch.Tensor)), "cpu")
    try:
        with user_code("autocast"), torch.autocast(device, dtype=torch.bfloat16):
            run = single.forward()
    except Raised:
        return None
    try:
        single.backward(run)
    except Raised as raised:
        return finding(
            single,
            "low-precision",
            None,
            f"after a forward under autocast the {raised}",
            severity="note",
            advice="decorate forward with torch.amp.custom_fwd and backward with torch.amp.custom_bwd",
            raised=raised,
        )
    return None


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
