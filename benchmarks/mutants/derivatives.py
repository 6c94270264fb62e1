"""First and second derivatives of a Function and of its reference, by plain torch and without gradsmith."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

Gradient = torch.Tensor | None


@dataclass(frozen=True)
class Point:
    """Inputs, and the upstream for each output that carries a gradient."""

    inputs: tuple[Any, ...]
    upstream: tuple[torch.Tensor, ...]

    @property
    def wanted(self) -> tuple[int, ...]:
        tensors = ((i, value) for i, value in enumerate(self.inputs) if isinstance(value, torch.Tensor))
        return tuple(i for i, value in tensors if value.requires_grad)


def point(function: Callable[..., Any], inputs: tuple[Any, ...], seed: int) -> Point:
    generator = torch.Generator().manual_seed(seed)
    upstream = [
        torch.randn(out.shape, dtype=out.dtype, generator=generator)
        for out in _outputs(function(*inputs))
        if out.requires_grad
    ]
    return Point(inputs, tuple(upstream))


def _outputs(out: Any) -> tuple[torch.Tensor, ...]:
    return out if isinstance(out, tuple) else (out,)


def gradients(
    function: Callable[..., Any], at: Point, upstream: Sequence[torch.Tensor] | None = None
) -> list[Gradient]:
    """The gradient of each input that wants one."""
    leaves = _leaves(at)
    outputs = [out for out in _outputs(function(*leaves)) if out.requires_grad]
    wanted = [leaves[i] for i in at.wanted]
    return list(torch.autograd.grad(outputs, wanted, upstream or at.upstream, allow_unused=True))


def second_gradients(function: Callable[..., Any], at: Point) -> list[torch.Tensor]:
    """Of the gradients, weighted at random, in each input and each upstream; zeros where nothing arrives."""
    leaves = _leaves(at)
    upstream = [up.clone().requires_grad_() for up in at.upstream]
    outputs = [out for out in _outputs(function(*leaves)) if out.requires_grad]
    wanted = [leaves[i] for i in at.wanted]
    grads = torch.autograd.grad(outputs, wanted, upstream, allow_unused=True, create_graph=True)
    generator = torch.Generator().manual_seed(5)
    total = torch.zeros((), dtype=torch.float64)
    for leaf, grad in zip(wanted, grads, strict=True):
        weight = torch.randn(leaf.shape, dtype=leaf.dtype, generator=generator)
        if grad is not None:
            total = total + (weight.conj() * grad).real.sum()
    variables = [*wanted, *upstream]
    if not total.requires_grad:
        return [torch.zeros_like(variable) for variable in variables]
    found = torch.autograd.grad(total, variables, allow_unused=True)
    return [torch.zeros_like(v) if f is None else f for v, f in zip(variables, found, strict=True)]


def _leaves(at: Point) -> list[Any]:
    return [
        value.detach().clone().requires_grad_(value.requires_grad) if isinstance(value, torch.Tensor) else value
        for value in at.inputs
    ]


def raw_gradients(function: Any, at: Point) -> list[Any]:
    """What `backward` itself returns for the inputs that want a gradient, before the engine sees it."""
    returned: list[Any] = []
    own = function.backward

    def spy(ctx: Any, *upstream: Any) -> Any:
        answer = own(ctx, *upstream)
        returned[:] = answer if isinstance(answer, tuple) else (answer,)
        return answer

    function.backward = staticmethod(spy)
    try:
        gradients(function.apply, at)
    finally:
        function.backward = staticmethod(own)
    return [returned[i] for i in at.wanted]


def agree(got: torch.Tensor, truth: torch.Tensor, close: float = 1e-9) -> bool:
    """Equal up to rounding, relative to the size of the truth."""
    if got.shape != truth.shape:
        return False
    size = float(truth.detach().abs().max()) if truth.numel() else 0.0
    return bool(((got - truth).abs() <= close * max(size, 1e-9)).all())
