"""The executed source against autograd of the plain forward, on the example: nothing is handed out that disagrees."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from gradsmith.derive.errors import DeriveError


def verify(
    name: str,
    forward: Callable[..., Any],
    op: Callable[..., Any],
    arguments: Mapping[str, Any],
    wanted: Sequence[str],
    source: str,
) -> None:
    """Raise DeriveError where values or gradients differ by more than rounding."""
    with torch.random.fork_rng(devices=[]):
        expected, expected_grads = _differentiated(forward, arguments, wanted)
        got, got_grads = _differentiated(op, arguments, wanted)
    for index, (one, two) in enumerate(zip(expected, got, strict=True)):
        if not _close(one, two):
            raise DeriveError(_message(name, f"the value of output {index}", source))
    for argument, one, two in zip(wanted, expected_grads, got_grads, strict=True):
        if not _close(one, two):
            raise DeriveError(_message(name, f"the gradient of `{argument}`", source))


def _differentiated(
    function: Callable[..., Any], arguments: Mapping[str, Any], wanted: Sequence[str]
) -> tuple[list[Tensor], list[Tensor]]:
    torch.manual_seed(0)
    inputs = {key: value.detach() if isinstance(value, Tensor) else value for key, value in arguments.items()}
    tensors = [inputs[key].clone().requires_grad_() for key in wanted]
    inputs.update(zip(wanted, tensors, strict=True))
    with torch.enable_grad():
        result = function(**inputs)
        outputs = list(result) if isinstance(result, tuple) else [result]
        live = [out for out in outputs if out.requires_grad]
        upstream = [torch.linspace(0.5, 1.5, out.numel(), dtype=out.dtype, device=out.device) for out in live]
        shaped = [u.reshape(out.shape) for u, out in zip(upstream, live, strict=True)]
        grads: Sequence[Tensor | None] = [None] * len(tensors)
        if live and tensors:
            grads = torch.autograd.grad(live, tensors, shaped, allow_unused=True)
    filled = [torch.zeros_like(t) if grad is None else grad for grad, t in zip(grads, tensors, strict=True)]
    return [out.detach() for out in outputs], filled


def _close(expected: Tensor, got: Tensor) -> bool:
    """Whether two tensors agree to half of the digits that their dtype has, relative to the largest of them."""
    if expected.shape != got.shape or expected.dtype != got.dtype:
        return False
    if not expected.is_floating_point() or expected.numel() == 0:
        return torch.equal(expected, got)
    scale = float(expected.abs().nan_to_num(0, 0, 0).max())
    tolerance = float(torch.finfo(expected.dtype).eps) ** 0.5 * scale
    return torch.allclose(expected, got, rtol=0, atol=tolerance, equal_nan=True)


def _message(name: str, what: str, source: str) -> str:
    return (
        f"derive: {what} of {name} does not agree with autograd's on the example, so the formulas are not handed "
        f"out. Either the example is at a point without a derivative, or this is a fault of gradsmith. The source "
        f"was:\n\n{source}"
    )
