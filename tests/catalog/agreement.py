"""How an op of the catalog is held against the function of torch that it stands for."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Function = Callable[..., Tensor]


def gradients(function: Function, inputs: tuple[Tensor, ...], upstream: Tensor | None = None) -> tuple[Tensor, ...]:
    """Gradients of `function` at copies of `inputs`; the upstream is ones unless given."""
    leaves = [value.detach().clone().requires_grad_() for value in inputs]
    out = function(*leaves)
    return torch.autograd.grad(out, leaves, torch.ones_like(out) if upstream is None else upstream)


def assert_agrees(
    ours: Function, theirs: Function, inputs: tuple[Tensor, ...], exact: bool = True, **tolerance: float
) -> None:
    """The same value, bit by bit unless `exact` is False, and the same first and second derivatives.

    They are taken under a random upstream gradient.
    """
    leaves = [value.detach().clone().requires_grad_() for value in inputs]
    out, expected = ours(*leaves), theirs(*leaves)
    torch.testing.assert_close(out, expected, equal_nan=True, **({"rtol": 0, "atol": 0} if exact else tolerance))
    seeded = torch.Generator(out.device).manual_seed(0)  # hypothesis asks for the same when it tries an example again
    upstream = torch.randn(out.shape, dtype=out.dtype, device=out.device, generator=seeded, requires_grad=True)
    results = []
    for value in (out, expected):
        plain = torch.autograd.grad(value, leaves, upstream, retain_graph=True)
        first = torch.autograd.grad(value, leaves, upstream, create_graph=True)
        energy = sum((grad * grad.conj()).real.sum() for grad in first)
        second = torch.autograd.grad(energy, [*leaves, upstream], allow_unused=True, materialize_grads=True)
        results.append([*plain, *first, *second])
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want, **tolerance)


def saved_bytes(function: Callable[[], Tensor]) -> int:
    """What a call keeps for its backward: each storage counts once."""
    seen: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        kept = function()
    assert kept.requires_grad
    return sum(seen.values())
