"""What the checker relies on inside torch is as it expects; a torch that changes it fails here."""

from __future__ import annotations

import torch
from torch.autograd import Function

from gradsmith.check import _private


class WithVjp(Function):
    @staticmethod
    def vjp(ctx, grad):
        return grad


class WithSetup(Function):
    @staticmethod
    def setup_context(ctx, inputs, output):
        pass


def test_apply_can_be_watched_below_function():
    assert _private.apply_site() is not Function


def test_the_backward_that_the_engine_reads_is_known():
    assert _private.backward_name(WithVjp) == "vjp"
    assert _private.backward_name(WithSetup) == "backward"


def test_styles_are_told_apart():
    assert _private.uses_setup_context(WithSetup)
    assert not _private.uses_setup_context(WithVjp)


def test_a_running_transform_is_noticed():
    seen = []
    torch.func.vmap(lambda x: (seen.append(_private.in_transform()), x)[1])(torch.ones(2))
    assert seen == [True]
    assert not _private.in_transform()


def test_without_the_private_query_no_transform_is_reported(monkeypatch):
    monkeypatch.delattr(torch._C, "_are_functorch_transforms_active")
    assert not _private.in_transform()


def test_the_operators_of_a_forward_and_of_a_backward_are_seen():
    seen = []

    class Seen(_private.DispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.append(func.overloadpacket.__name__)
            return func(*args, **(kwargs or {}))

    class Allocates(Function):
        @staticmethod
        def forward(ctx, x):
            return torch.empty_like(x).copy_(x)

        @staticmethod
        def backward(ctx, grad):
            return grad.new_empty(grad.shape).copy_(grad)

    x = torch.ones(2, requires_grad=True)
    with Seen():
        torch.autograd.grad(Allocates.apply(x), x, torch.ones(2))
    assert "empty_like" in seen
    assert "new_empty" in seen
