"""Every way to ask for a gradient, which must all give the declared one."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Function = Callable[[Tensor], Tensor]

POINTS = torch.tensor([-3.0, -1.0, -0.6, -0.5, -0.0, 0.0, 0.3, 0.5, 1.0, 1.5, 4.0], dtype=torch.float64)


def slope(function: Function, x: Tensor) -> Tensor:
    """The gradient of an elementwise function at each element."""
    x = x.detach().clone().requires_grad_()
    return torch.autograd.grad(function(x).sum(), x)[0]


def assert_differentiates_as(function: Function, declared: Function, x: Tensor) -> None:
    """First and second derivatives of `function`, by every route, are those of `declared` at `x`."""
    upstream = torch.linspace(-2, 3, x.numel(), dtype=x.dtype).reshape(x.shape)

    def reverse(f: Function) -> Tensor:
        leaf = x.clone().requires_grad_()
        return torch.autograd.grad(f(leaf), leaf, upstream)[0]

    def second(f: Function) -> Tensor:
        leaf = x.clone().requires_grad_()
        (grad,) = torch.autograd.grad(f(leaf), leaf, upstream, create_graph=True)
        if not grad.requires_grad:
            return torch.zeros_like(leaf)
        return torch.autograd.grad(grad.sum(), leaf, allow_unused=True, materialize_grads=True)[0]

    def forward(f: Function) -> Tensor:
        return torch.func.jvp(f, (x,), (upstream,))[1]

    def per_element(f: Function) -> Tensor:
        return torch.func.vmap(torch.func.grad(lambda v: f(v).sum()))(x)

    for route in (reverse, second, forward, per_element):
        torch.testing.assert_close(route(function), route(declared), msg=lambda text, r=route: f"{r.__name__}: {text}")
