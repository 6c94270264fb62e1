"""`is_grads_batched=True`: the formulas run under torch.func.vmap, whatever they do."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

import gradsmith as gs
from gradsmith.define import _private, batched_gradients


def leaf(*shape):
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def rows_apart(grad, x):
    return torch.stack([g * 2 * row for g, row in zip(grad.unbind(), x.unbind(), strict=True)])


@pytest.mark.parametrize("formula", [rows_apart, lambda grad, x: (grad * 2).mul_(x)], ids=["rows apart", "in place"])
def test_gradcheck_with_batched_gradients_and_again(formula):
    square = gs.op(lambda x: x * x, x=formula)
    assert gradcheck(square, (leaf(3, 2),), check_batched_grad=True)
    assert gradgradcheck(square, (leaf(3, 2),), check_batched_grad=True)


def test_some_outputs_batched_and_some_without_a_gradient():
    both = gs.op(
        lambda x, y: (x * y, x + y),
        outputs=("product", "sum"),
        x=lambda grad_product, grad_sum, y: grad_product * y + grad_sum,
        y=None,
    )
    x, y = leaf(3), leaf(3)
    product, _ = both(x, y)
    got = torch.autograd.grad(product, (x, y), torch.eye(3).double(), is_grads_batched=True, allow_unused=True)
    torch.testing.assert_close(got[0], torch.diag(y.detach()))
    assert got[1] is None or not got[1].any()


def test_the_vectorised_jacobian():
    cube = gs.op(lambda x: x**3, x=lambda grad, x: (3 * grad).mul_(x * x))
    x = leaf(4)
    found = torch.autograd.functional.jacobian(cube, x, vectorize=True)
    torch.testing.assert_close(found, torch.diag(3 * x.detach() ** 2))


def test_an_error_of_a_formula_is_told_as_ever():
    def broken(grad, x):
        raise ValueError("no such thing")

    op = gs.op(lambda x: x * 2, x=broken)
    x = leaf(3)
    with pytest.raises(gs.FormulaError, match="the formula for x raised ValueError: no such thing"):
        torch.autograd.grad(op(x), x, torch.eye(3).double(), is_grads_batched=True)


def test_without_torchs_private_test_its_former_vmap_does_what_it_can(monkeypatch):
    monkeypatch.setattr(batched_gradients, "is_former_batched", _private._never)
    twice = gs.op(lambda x: 2 * x, x=lambda grad: 2 * grad)
    x = leaf(3)
    got = torch.autograd.grad(twice(x), x, torch.eye(3).double(), is_grads_batched=True)[0]
    torch.testing.assert_close(got, 2 * torch.eye(3).double())
