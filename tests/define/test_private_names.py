"""Each private name of torch may be missing: what depends on it is still right, or refused."""

import pytest
import torch
import torch._dynamo
import torch.autograd.forward_ad as forward_ad

import gradsmith as gs
from gradsmith.define import _private, form, function, precision, saving


@pytest.mark.parametrize("name", ["_current_level", "nonstrict_trace"])
def test_without_a_private_name_the_guard_takes_the_way_that_is_right(name, monkeypatch):
    if name == "_current_level":
        monkeypatch.delattr(forward_ad, name)
        assert _private.forward_ad_active() is True  # tensors are kept for forward mode at every call
    else:
        monkeypatch.delattr(torch._dynamo, name)

        def f(x):
            return x * 2

        assert _private.in_graph(f) is f  # allow_in_graph marks it and hands it back


def test_without_the_test_for_transforms_every_call_takes_the_way_that_is_right_under_both(monkeypatch):
    for module in (function, form):
        monkeypatch.setattr(module, "functorch_active", _private._always)
    op = gs.op(lambda x: x.sin(), x=lambda grad, x: 3 * grad * x.cos())
    x = torch.tensor([0.3, 1.2], dtype=torch.float64, requires_grad=True)
    expected = 3 * x.detach().cos()
    torch.testing.assert_close(torch.autograd.grad(op(x).sum(), x)[0], expected)
    torch.testing.assert_close(torch.vmap(torch.func.grad(op))(x.detach()), expected)
    assert torch.autograd.gradgradcheck(op, (x,))


@pytest.mark.parametrize("autocast", [False, True])
def test_without_the_test_for_autocast_every_backward_still_runs_in_the_precision_of_its_forward(autocast, monkeypatch):
    for module in (function, precision, saving):
        monkeypatch.setattr(module, "autocast_anywhere", _private._always)
    seen = []

    def formula(grad, w):
        seen.append(torch.is_autocast_enabled("cpu"))
        return grad @ w.mT

    op = gs.op(lambda x, w: x @ w, x=formula, w=lambda grad, x: x.mT @ grad)
    x, w = torch.randn(2, 3, requires_grad=True), torch.randn(3, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        out = op(x, w)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=not autocast):
        out.sum().backward()
    assert seen == [autocast]
    assert x.grad.dtype == torch.float32
