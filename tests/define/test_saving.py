"""What is saved, and how: only what is needed, once, through saved-tensor hooks, and freed without the collector."""

import gc
import weakref

import pytest
import torch
from torch.autograd.graph import save_on_cpu, saved_tensors_hooks
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

import gradsmith as gs

linear = gs.op(
    lambda input, weight, bias=None: functional.linear(input, weight, bias),
    input=lambda grad, weight: grad @ weight,
    weight=lambda grad, input: grad.mT @ input,
    bias=lambda grad: grad.sum(0),
)
square = gs.op(lambda x, y: x * y, x=lambda grad, y: grad * y, y=lambda grad, x: grad * x)


class Square(gs.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, grad_output):
        (x,) = ctx.saved_tensors
        return 2 * grad_output * x


class KeepsOnCtx(gs.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.x, ctx.out = x, x.exp()
        return ctx.out

    @staticmethod
    def backward(ctx, grad_output):
        return grad_output * ctx.out


def leaf(*shape, grad=True):
    return torch.randn(shape, dtype=torch.float64, requires_grad=grad)


def saved_by(call):
    """The tensors that go through the saved-tensor hooks while `call` runs."""
    packed = []
    with saved_tensors_hooks(lambda t: packed.append(t) or t, lambda t: t):
        call()
    return packed


@pytest.mark.parametrize(
    ("needs", "expected"),
    [((1, 1, 1), {"weight", "input"}), ((0, 1, 1), {"input"}), ((1, 0, 1), {"weight"}), ((0, 0, 1), set())],
)
def test_only_what_the_needed_gradients_ask_for_is_saved(needs, expected):
    tensors = {"input": leaf(4, 3), "weight": leaf(5, 3), "bias": leaf(5)}
    for tensor, need in zip(tensors.values(), needs, strict=True):
        tensor.requires_grad_(bool(need))
    packed = saved_by(lambda: linear(*tensors.values()))
    assert {name for name, t in tensors.items() if any(p.data_ptr() == t.data_ptr() for p in packed)} == expected
    assert len(packed) == len(expected)
    explanation = linear.explain(*tensors.values())
    assert {t.name for t in explanation.tensors} == expected
    assert explanation.bytes == sum(p.numel() * 8 for p in packed)


def test_nothing_is_saved_without_gradients():
    assert saved_by(lambda: linear(leaf(4, 3, grad=False), leaf(5, 3, grad=False))) == []
    with torch.no_grad():
        assert saved_by(lambda: linear(leaf(4, 3), leaf(5, 3))) == []


def test_a_tensor_needed_twice_is_saved_once():
    x = leaf(3)
    assert len(saved_by(lambda: square(x, x))) == 1
    torch.testing.assert_close(torch.autograd.grad(square(x, x).sum(), x)[0], 2 * x.detach())
    assert square.explain(x, x).bytes == 24


def test_saves_names_what_is_asked_for():
    assert linear.saves() == ("weight", "input")
    assert linear.saves("bias") == ()
    assert gs.op(lambda x: x.sum(), x=lambda grad, x_shape: grad.expand(x_shape)).saves() == ("x.shape",)
    with pytest.raises(gs.DefinitionError, match="no argument `wieght`"):
        linear.saves("wieght")


@pytest.mark.parametrize("function", [lambda x: square(x, x), Square.apply], ids=["op", "class"])
def test_a_saved_tensor_changed_in_place_raises(function):
    x = leaf(3)
    y = x * 1
    out = function(y)
    y.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


@pytest.mark.parametrize("function", [lambda x: square(x, x), Square.apply], ids=["op", "class"])
@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointing_and_offloading_work(function, reentrant):
    x = leaf(3)
    with save_on_cpu():
        out = checkpoint(lambda y: function(y * 1).exp(), x, use_reentrant=reentrant)
    (got,) = torch.autograd.grad(out.sum(), x) if not reentrant else (out.sum().backward(), x.grad)[1:]
    (expected,) = torch.autograd.grad(function(x).exp().sum(), x)
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize(
    "function",
    [lambda x: square(x, x), gs.exp, Square.apply, KeepsOnCtx.apply],
    ids=["op", "output", "class", "on ctx"],
)
@pytest.mark.filterwarnings("ignore::gradsmith.ContextWarning")
def test_everything_is_freed_without_the_garbage_collector(function):
    gc.collect()
    gc.disable()
    try:
        x = leaf(3)
        out = function(x)
        tensor, node = weakref.ref(out), weakref.ref(out.grad_fn)
        del out
        assert tensor() is None
        assert node() is None
    finally:
        gc.enable()


def test_tensors_on_ctx_are_found_and_saved_as_they_should_be():
    class Fresh(KeepsOnCtx):
        pass

    x = leaf(3)
    with pytest.warns(gs.ContextWarning, match="Fresh.forward leaves tensors on ctx .ctx.x, ctx.out."):
        out = Fresh.apply(x)
    assert len(saved_by(lambda: Fresh.apply(x))) == 2
    torch.testing.assert_close(torch.autograd.grad(out.sum(), x)[0], x.exp().detach())
    assert torch.autograd.gradgradcheck(Fresh.apply, (x,))


def test_an_op_that_is_differentiable_once_keeps_nothing_to_compute_its_residuals_again():
    def forward(x, shift):
        return gs.keep((x + shift).exp(), slope=(x + shift).exp())

    twice = gs.op(forward, x=lambda grad, slope: grad * slope)
    once = gs.op(forward, x=lambda grad, slope: grad * slope, once=True)
    shift = torch.tensor([1, 2, 3])
    for op, kept in ((twice, True), (once, False)):
        out = op(leaf(3) * 1, shift)
        assert any(value is shift for value in _on_ctx(out.grad_fn)) is kept
    (first,) = torch.autograd.grad(once(x := leaf(3), shift).sum(), x)
    torch.testing.assert_close(first, (x + shift).exp().detach())


def _on_ctx(node):
    """The tensors that a node holds outside of its saved tensors."""
    return [pointer[1].tensor for pointer in node.kept.pointers or () if hasattr(pointer[1], "tensor")]
