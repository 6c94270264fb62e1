"""Opaque functions: torch.library operators of known shapes, differentiable through the op around them."""

import math

import numpy
import pytest
import torch
from scipy import special
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vmap

import gradsmith as gs


@gs.opaque(lambda x: torch.empty_like(x))
def erfcx_raw(x):
    return special.erfcx(x.numpy())


erfcx = gs.op(erfcx_raw, x=lambda grad, x, out: grad * (2 * x * out - 2 / math.sqrt(math.pi)))


@gs.opaque(lambda x, steps: (x.new_empty(x.shape), x.new_empty(x.shape)), outputs=2)
def compound_raw(x: torch.Tensor, steps: int):
    """A loop that torch does not see: the sum of x^k and its derivative."""
    values = x.numpy()
    total, slope = numpy.zeros_like(values), numpy.zeros_like(values)
    for k in range(1, steps + 1):
        total += values**k
        slope += k * values ** (k - 1)
    return total, slope


def compound_forward(x, steps):
    total, slope = compound_raw(x, steps)
    return gs.keep(total, slope=slope)


compound = gs.op(compound_forward, once=True, x=lambda grad, slope: grad * slope)


def leaf(*shape):
    return torch.rand(shape, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("requires_grad", [False, True])
def test_the_operator_passes_opcheck(requires_grad):
    x = torch.rand(3, dtype=torch.float64, requires_grad=requires_grad)
    results = torch.library.opcheck(erfcx_raw.operator, (x,))
    assert set(results.values()) == {"SUCCESS"}


def test_it_is_differentiated_to_any_order_by_every_mode():
    x = leaf(4)
    assert torch.autograd.gradcheck(erfcx, (x,), check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(erfcx, (x,))
    for transform in (
        vmap,
        jacrev,
        jacfwd,
        lambda f: vmap(grad(f)),
        lambda f: jacfwd(jacrev(f)),
        lambda f: vmap(hessian(f)),
    ):
        torch.testing.assert_close(transform(erfcx)(x.detach()), transform(torch.special.erfcx)(x.detach()))


def test_by_itself_it_refuses_every_derivative_where_torch_gives_zeros():
    x = leaf(3)
    for ask in (
        lambda: erfcx_raw(x).sum().backward(),
        lambda: grad(lambda y: erfcx_raw(y).sum())(x.detach()),
        lambda: jvp(erfcx_raw, (x.detach(),), (x.detach(),)),
        lambda: jacfwd(erfcx_raw)(x.detach()),
        lambda: vmap(grad(erfcx_raw))(x.detach()),
    ):
        with pytest.raises(gs.SecondDerivativeError, match="erfcx_raw is opaque"):
            ask()


def test_a_loop_with_a_residual_and_a_plain_argument():
    x = leaf(3)
    assert torch.autograd.gradcheck(lambda y: compound(y, 4), (x,), check_forward_ad=True, check_batched_grad=True)
    with pytest.raises(gs.SecondDerivativeError):
        hessian(lambda y: compound(y, 4).sum())(x.detach())


@pytest.mark.slow
def test_it_is_one_node_in_a_compiled_graph():
    x = leaf(3)
    torch._dynamo.reset()
    call = torch.compile(lambda y: erfcx(y).sum(), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(torch.autograd.grad(call(x), x)[0], torch.autograd.grad(erfcx(x).sum(), x)[0])


def test_results_that_are_not_of_the_declared_shape_are_told():
    wrong = gs.opaque(lambda x: x.new_empty(2))(lambda x: x.numpy())
    with pytest.raises(gs.FormulaError, match=r"output 0 is torch.float64 of shape \(3,\), but its shape rule says"):
        wrong(torch.rand(3, dtype=torch.float64))


def test_a_result_that_shares_memory_with_an_argument_is_copied():
    same = gs.opaque(lambda x: torch.empty_like(x))(lambda x: x.numpy())
    x = torch.rand(3)
    assert same(x).data_ptr() != x.data_ptr()


def test_mistakes_in_a_declaration_are_told():
    with pytest.raises(gs.DefinitionError, match="takes a shape rule"):
        gs.opaque("shape")
    with pytest.raises(gs.DefinitionError, match="no place in an operator"):
        gs.opaque(lambda x: x)(lambda *xs: xs)

    def takes_a_set(x: torch.Tensor, names: set):
        return x

    with pytest.raises(gs.DefinitionError, match="`names` is annotated"):
        gs.opaque(lambda x, names: x)(takes_a_set)
    with pytest.raises(gs.CallError, match="erfcx_raw"):
        erfcx_raw()
