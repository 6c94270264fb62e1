"""torch.compile keeps the rule: one whole graph, in every transform inside it, and for the op that was meant."""

import pytest
import torch
from torch.func import grad, jacfwd, jvp, vmap

import gradsmith as gs

pytestmark = pytest.mark.slow
X = torch.tensor([0.3, -0.7, 1.1], dtype=torch.float64)

# Three times the derivative of the forward, and five times in a jvp, so that a graph that differentiates the forward is
# found out.
sin = gs.op(lambda x: x.sin(), x=lambda grad, x: 3 * grad * x.cos())
double = gs.op(lambda x: x * 2, x=lambda grad: grad * 2)
triple = gs.op(lambda x: x * 3, x=lambda grad: grad * 3)
product = gs.op(lambda a, b: a * b, a=lambda grad, b: 3 * grad * b, b=lambda grad, a: 3 * grad * a)

with_jvp = gs.op(lambda x: x.sin(), x=lambda grad, x: 3 * grad * x.cos())
with_jvp.jvp(lambda tangent_x, x: 5 * tangent_x * x.cos())


@gs.op(x=lambda grad, x, lse: 3 * grad.unsqueeze(-1) * (x - lse).exp())
def logsumexp(x):
    lse = torch.logsumexp(x, -1, keepdim=True)
    return gs.keep(lse.squeeze(-1), lse=lse)


class Sin(gs.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx, grad_output):
        (x,) = ctx.saved_tensors
        return 3 * grad_output * x.cos()


def compiled(function, **options):
    torch._dynamo.reset()
    return torch.compile(function, fullgraph=True, backend="aot_eager", **options)


@pytest.mark.parametrize(
    "f",
    [sin, with_jvp, logsumexp, Sin.apply, lambda x: product(x, x)],
    ids=["op", "with a jvp", "residual", "class", "twice"],
)
@pytest.mark.parametrize(
    "transform",
    [
        lambda f: lambda x: f(x) * 1,
        lambda f: grad(lambda x: f(x).sum()),
        lambda f: vmap(grad(lambda x: f(x).sum())),
        lambda f: lambda x: jvp(f, (x,), (torch.ones_like(x),))[1],
        jacfwd,
        lambda f: grad(lambda x: grad(lambda y: f(y).sum())(x).square().sum()),
    ],
    ids=["plain", "grad", "vmap of grad", "jvp", "jacfwd", "grad of grad"],
)
def test_transforms_inside_a_compiled_region_use_the_rule(f, transform):
    x = torch.stack([X, X + 1])
    torch.testing.assert_close(compiled(transform(f))(x), transform(f)(x))


@pytest.mark.parametrize("f", [sin, logsumexp, Sin.apply], ids=["op", "residual", "class"])
def test_a_backward_through_a_compiled_region_uses_the_rule(f):
    x = X.clone().requires_grad_()
    got = torch.autograd.grad(compiled(lambda x: f(x).sum().expand(4))(x).sum(), x)[0]
    torch.testing.assert_close(got, torch.autograd.grad(4 * f(x).sum(), x)[0])


def test_each_op_is_compiled_as_itself():
    call = compiled(lambda f, x: f(x).sum())
    assert [call(f, torch.ones(2)).item() for f in (double, triple, double)] == [4.0, 6.0, 4.0]


def test_a_formula_added_later_is_used():
    op = gs.op(lambda x: x * 2)
    call = compiled(lambda x: op(x).sum())
    call(X)
    op.vjp("x")(lambda grad: grad * 5)
    x = X.clone().requires_grad_()
    torch.testing.assert_close(torch.autograd.grad(call(x), x)[0], torch.full_like(x, 5))


def test_containers_go_through_a_compiled_region():
    op = gs.op(
        lambda ps: {"product": ps["a"] * ps["b"], "sum": [ps["a"] + ps["b"]]},
        ps=lambda grad, ps: {
            "a": grad["product"] * ps["b"] + grad["sum"][0],
            "b": grad["product"] * ps["a"] + grad["sum"][0],
        },
    )
    a, b = X.clone().requires_grad_(), (X + 1).requires_grad_()
    out = compiled(lambda a, b: op({"a": a, "b": b}))(a, b)
    got = torch.autograd.grad(out["product"].sum() + out["sum"][0].sum(), (a, b))
    torch.testing.assert_close(got, (b + 1, a + 1))


def test_dynamic_shapes_need_no_second_graph():
    call = compiled(lambda x: logsumexp(x).sum(), dynamic=True)
    for size in (3, 5, 8):
        x = torch.randn(2, size, dtype=torch.float64, requires_grad=True)
        torch.testing.assert_close(torch.autograd.grad(call(x), x)[0], torch.autograd.grad(logsumexp(x).sum(), x)[0])


def test_autocast_inside_a_compiled_region():
    op = gs.op(lambda x, w: x @ w, cast="inputs", x=lambda grad, w: grad @ w.mT, w=lambda grad, x: x.mT @ grad)
    x, w = torch.randn(4, 3, requires_grad=True), torch.randn(3, 5, requires_grad=True)

    def run(x, w):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return op(x, w)

    out = compiled(run)(x, w)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(
        torch.autograd.grad(out.float().sum(), x), torch.autograd.grad(run(x, w).float().sum(), x)
    )


def test_inductor_runs_each_op_as_itself():
    torch._dynamo.reset()
    x = torch.ones(8, requires_grad=True)
    for f, factor in ((double, 2.0), (triple, 3.0)):
        call = torch.compile(lambda x, f=f: f(x).sum(), fullgraph=True)
        assert call(x).item() == 8 * factor
        assert torch.autograd.grad(call(x), x)[0].tolist() == [factor] * 8


def test_an_exported_program_keeps_the_forward():
    class Model(torch.nn.Module):
        def forward(self, x):
            return logsumexp(x) * 2

    program = torch.export.export(Model(), (X,))
    torch.testing.assert_close(program.module()(X), Model()(X))
