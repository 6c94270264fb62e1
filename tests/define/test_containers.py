"""Arguments and outputs that hold tensors in lists, tuples, dicts, named tuples and dataclasses are tracked."""

from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch

import gradsmith as gs


class Pair(NamedTuple):
    first: torch.Tensor
    second: torch.Tensor


@dataclass
class Params:
    w: torch.Tensor
    b: torch.Tensor
    power: int = 2


def leaf(*shape):
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


@gs.op(params=lambda grad, x, params_shape: {"w": grad * x, "b": grad.sum_to_size(params_shape["b"])}, x=None)
def affine(x, params):
    return x * params["w"] + params["b"]


def test_a_dict_of_parameters_gets_gradients_in_its_structure():
    x, params = leaf(4).detach(), {"w": leaf(4), "b": leaf(1)}
    grads = torch.autograd.grad(affine(x, params).sum(), list(params.values()))
    torch.testing.assert_close(grads, (x, torch.tensor([4.0], dtype=torch.float64)))


def test_only_the_leaves_that_require_one_get_a_gradient():
    params = {"w": leaf(4), "b": leaf(1).detach()}
    out = affine(leaf(4).detach(), params)
    out.sum().backward()
    assert params["w"].grad is not None
    assert params["b"].grad is None


@pytest.mark.parametrize(
    ("make", "take"),
    [
        (lambda a, b: [a, b], lambda c: (c[0], c[1])),
        (lambda a, b: (a, b), lambda c: (c[0], c[1])),
        (lambda a, b: {"a": a, "b": b}, lambda c: (c["a"], c["b"])),
        (Pair, lambda c: (c.first, c.second)),
        (lambda a, b: Params(a, b, 2), lambda c: (c.w, c.b)),
        (lambda a, b: {"deep": [a, (b,)]}, lambda c: (c["deep"][0], c["deep"][1][0])),
    ],
    ids=["list", "tuple", "dict", "named tuple", "dataclass", "nested"],
)
def test_every_container_is_tracked_as_argument_and_as_output(make, take):
    def forward(both):
        a, b = take(both)
        return make(a * b, a + b)

    def formula(grad, both):
        (a, b), (grad_product, grad_sum) = take(both), take(grad)
        return make(grad_product * b + grad_sum, grad_product * a + grad_sum)

    op = gs.op(forward, both=formula)
    a, b = leaf(3), leaf(3)
    assert type(op(make(a, b))) is type(make(a, b))

    def flat(a, b):
        return take(op(make(a, b)))

    assert torch.autograd.gradcheck(flat, (a, b), check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(flat, (a, b))
    assert torch.vmap(flat)(a.expand(2, 3), b.expand(2, 3))[0].shape == (2, 3)
    torch.testing.assert_close(
        torch.func.jacrev(flat, argnums=(0, 1))(a, b), torch.func.jacrev(lambda a, b: (a * b, a + b), (0, 1))(a, b)
    )


def test_variadic_and_keyword_only_arguments_are_tracked():
    @gs.op(
        xs=lambda grad, xs, scale: tuple(grad * scale for _ in xs),
        scale=lambda grad, xs: (grad * sum(xs)).sum(),
        extras=lambda grad, extras: dict.fromkeys(extras, grad),
    )
    def weighted(*xs, scale, **extras):
        return sum(xs) * scale + sum(extras.values())

    a, b, scale, more = leaf(3), leaf(3), leaf(), leaf(3)
    assert torch.autograd.gradcheck(lambda a, b, s, m: weighted(a, b, scale=s, more=m), (a, b, scale, more))
    assert torch.autograd.gradgradcheck(lambda a, b, s, m: weighted(a, b, scale=s, more=m), (a, b, scale, more))


def test_several_outputs_are_named_and_integers_among_them_are_not_differentiable():
    @gs.op(
        outputs=("values", "indices"),
        x=lambda grad_values, indices, x_shape: grad_values.new_zeros(x_shape).scatter(-1, indices, grad_values),
    )
    def top(x, k):
        return tuple(torch.topk(x, k))

    x = leaf(2, 5)
    _, indices = top(x, 2)
    assert not indices.requires_grad
    assert torch.autograd.gradcheck(lambda x: top(x, 2)[0], (x,), check_forward_ad=True, check_batched_grad=True)
    assert torch.func.vmap(lambda x: top(x, 2)[1])(x).equal(indices)


def test_an_output_that_is_not_used_costs_nothing():
    ran = []

    def formula(grad_b):
        ran.append("b")
        return grad_b

    op = gs.op(lambda x, y: (x * 2, y * 3), outputs=("a", "b"), x=lambda grad_a: grad_a * 2, y=formula)
    x, y = leaf(3), leaf(3)
    a, _ = op(x, y)
    assert torch.autograd.grad(a.sum(), (x, y), allow_unused=True)[1] is None
    assert ran == []


def test_an_output_may_be_none():
    op = gs.op(lambda x, flag: (x * 2, None), outputs=("a", "b"), x=lambda grad_a: grad_a * 2)
    assert op(leaf(3), True)[1] is None
    assert torch.autograd.gradcheck(lambda x: op(x, True)[0], (leaf(3),))


def test_an_unused_upstream_arrives_as_zeros_where_another_is_there():
    op = gs.op(lambda x: (x * 2, x * 3), outputs=("a", "b"), x=lambda grad_a, grad_b: grad_a * 2 + grad_b * 3)
    x = leaf(3)
    torch.testing.assert_close(torch.autograd.grad(op(x)[1].sum(), x)[0], torch.full_like(x, 3))


def test_a_gradient_in_another_structure_names_the_leaves_expected():
    op = gs.op(lambda ps: ps["w"] * ps["b"], ps=lambda grad, ps: grad)
    with pytest.raises(gs.FormulaError, match=r"2 leaves \(ps\['w'\], ps\['b'\]\)"):
        op({"w": leaf(2), "b": leaf(2)}).sum().backward()
