"""A second derivative is right or refused: residuals, and ops that are once differentiable."""

import numpy
import pytest
import torch
from torch.autograd.function import once_differentiable
from torch.func import grad, hessian, jacfwd, jacrev, vmap
from torch.nn import functional

import gradsmith as gs


def leaf(*shape):
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


once_op = gs.op(lambda x: x**3, once=True, x=lambda grad, x: 3 * grad * x**2)
once_op_that_saves_nothing = gs.op(lambda x: 3 * x, once=True, x=lambda grad: 3 * grad)


class OnceClass(gs.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output):
        (x,) = ctx.saved_tensors
        return torch.from_numpy(3 * grad_output.numpy() * x.detach().numpy() ** 2)


def first(f, x):
    return torch.autograd.grad(f(x).sum(), x, create_graph=True)[0]


SECOND_ROUTES = {
    "backward": lambda f, x: first(f, x).sum().backward(),
    "autograd.grad": lambda f, x: torch.autograd.grad(first(f, x).sum(), x),
    "allow_unused": lambda f, x: torch.autograd.grad(first(f, x).sum(), x, allow_unused=True),
    "penalty": lambda f, x: ((first(f, x) ** 2).sum() + x.sum()).backward(),
    "other upstream": lambda f, x: torch.autograd.grad(first(lambda y: f(y) * y, x).sum(), x),
    "grad of grad": lambda f, x: grad(lambda y: grad(lambda z: f(z).sum())(y).sum())(x.detach()),
    "hessian": lambda f, x: hessian(lambda y: f(y).sum())(x.detach()),
    "jacrev of jacrev": lambda f, x: jacrev(jacrev(f))(x.detach()),
    "jacfwd of jacfwd": lambda f, x: jacfwd(jacfwd(f))(x.detach()),
    "jacrev of jacfwd": lambda f, x: jacrev(jacfwd(f))(x.detach()),
    "functional.hessian": lambda f, x: torch.autograd.functional.hessian(lambda y: f(y).sum(), x),
    "vmap of hessian": lambda f, x: vmap(hessian(lambda y: f(y).sum()))(x.detach().expand(2, -1)),
    "jacrev of jacrev of vmap": lambda f, x: jacrev(jacrev(vmap(f)))(x.detach()),
}


@pytest.mark.parametrize("route", SECOND_ROUTES)
@pytest.mark.parametrize("f", [once_op, once_op_that_saves_nothing], ids=["saves the input", "saves nothing"])
def test_a_once_differentiable_op_refuses_by_every_route(f, route):
    with pytest.raises(gs.SecondDerivativeError, match="once differentiable"):
        SECOND_ROUTES[route](f, leaf(3))


@pytest.mark.parametrize("route", [r for r in SECOND_ROUTES if "vmap" not in r and "jacfwd" not in r])
def test_torchs_once_differentiable_is_a_real_guard_on_our_base_class(route):
    if route in ("jacrev of jacrev", "hessian", "grad of grad"):
        pytest.skip("its backward goes through NumPy, which torch.func cannot enter")
    with pytest.raises(gs.SecondDerivativeError, match="OnceClass is once differentiable"):
        SECOND_ROUTES[route](OnceClass.apply, leaf(3))


def test_a_once_differentiable_op_gives_first_derivatives_by_every_route():
    x = leaf(3)
    expected = 3 * x.detach() ** 2
    for got in (
        torch.autograd.grad(once_op(x).sum(), x)[0],
        torch.autograd.grad(once_op(x).sum(), x, create_graph=True)[0].detach(),
        grad(lambda y: once_op(y).sum())(x.detach()),
        jacfwd(once_op)(x.detach()).diagonal(),
        vmap(grad(once_op))(x.detach()),
    ):
        torch.testing.assert_close(got, expected)


def layer_norm_forward(input, weight, bias):
    mean = input.mean(-1, keepdim=True)
    rstd = (input.var(-1, unbiased=False, keepdim=True) + 1e-5).rsqrt()
    return gs.keep((input - mean) * rstd * weight + bias, mean=mean, rstd=rstd)


def layer_norm_input(grad, input, weight, mean, rstd):
    normal, scaled = (input - mean) * rstd, grad * weight
    return rstd * (scaled - scaled.mean(-1, keepdim=True) - normal * (scaled * normal).mean(-1, keepdim=True))


layer_norm = gs.op(
    layer_norm_forward,
    input=layer_norm_input,
    weight=lambda grad, input, mean, rstd, weight_shape: (grad * (input - mean) * rstd).sum_to_size(weight_shape),
    bias=lambda grad, bias_shape: grad.sum_to_size(bias_shape),
)


def plain_layer_norm(x, w, b):
    """Written out: the third derivative of torch's own layer_norm takes mean and deviation as constants."""
    rstd = (x.var(-1, unbiased=False, keepdim=True) + 1e-5).rsqrt()
    return (x - x.mean(-1, keepdim=True)) * rstd * w + b


def test_residuals_are_differentiated_to_third_order():
    x, w, b = leaf(2, 4), leaf(4), leaf(4)
    assert torch.autograd.gradcheck(layer_norm, (x, w, b), check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(layer_norm, (x, w, b))

    def third(f):
        return jacrev(jacfwd(jacrev(lambda x: f(x, w.detach(), b.detach()).square().sum())))(x.detach())

    torch.testing.assert_close(third(layer_norm), third(plain_layer_norm))


@pytest.mark.parametrize("frozen", [(0,), (1,), (2,), (0, 1), (1, 2)])
def test_residuals_are_differentiated_with_frozen_arguments(frozen):
    args = [leaf(2, 4), leaf(4), leaf(4)]
    args = [arg.detach() if index in frozen else arg for index, arg in enumerate(args)]
    assert torch.autograd.gradgradcheck(layer_norm, args)


def tanh_forward(x):
    out = x.tanh()
    return gs.keep(out, y=out * 1)


def test_a_residual_whose_argument_is_not_kept_is_refused_and_says_what_to_do():
    op = gs.op(tanh_forward, x=lambda grad, y: grad * (1 - y * y))
    x = leaf(3)
    torch.testing.assert_close(first(op, x), 1 - x.tanh() ** 2)
    hidden = x * 1.0  # no leaf: it would cost memory to keep
    (g,) = torch.autograd.grad(op(hidden).sum(), hidden, create_graph=True)
    for unused in (False, True):
        with pytest.raises(gs.SecondDerivativeError, match=r"residual `y`.*`x`, which is needed.*formula ask for `x`"):
            torch.autograd.grad(g.sum(), x, retain_graph=True, allow_unused=unused)


def test_a_residual_that_autograd_cannot_see_is_refused():
    def through_numpy(x):
        return gs.keep(x.exp(), y=torch.from_numpy(numpy.exp(x.detach().numpy())))

    op = gs.op(through_numpy, x=lambda grad, x, y: grad * y)
    x = leaf(3)
    torch.testing.assert_close(torch.autograd.grad(op(x).sum(), x)[0], x.exp().detach())
    with pytest.raises((gs.SecondDerivativeError, RuntimeError)):
        torch.autograd.grad(first(op, x).sum(), x)


def test_a_random_residual_is_refused_unless_it_is_declared_constant():
    def dropout(x, constant):
        mask = (torch.rand_like(x) > 0.5).to(x.dtype) * 2
        return gs.keep(x * mask, mask=gs.constant(mask) if constant else mask)

    op = gs.op(dropout, x=lambda grad, x, mask: grad * mask)
    x = leaf(3)
    with pytest.raises(gs.SecondDerivativeError, match=r"gs.constant\(mask\)"):
        torch.autograd.grad(first(lambda y: op(y, False), x).sum(), x)
    g = first(lambda y: op(y, True) ** 2, x)
    assert torch.autograd.grad(g.sum(), x)[0].isfinite().all()


class SavesTheSoftmax(gs.Function):
    """The tutorial's loss: an intermediate is saved, which on torch's base class makes second derivatives zero."""

    @staticmethod
    def forward(ctx, logits, targets):
        probabilities = torch.softmax(logits, 1)
        ctx.save_for_backward(probabilities, targets)
        return -probabilities[torch.arange(len(targets)), targets].log().mean()

    @staticmethod
    def backward(ctx, grad_output):
        probabilities, targets = ctx.saved_tensors
        one_hot = functional.one_hot(targets, probabilities.shape[1])
        return grad_output * (probabilities - one_hot) / len(targets), None


def test_a_class_that_saves_an_intermediate_has_right_second_derivatives():
    logits, targets = leaf(3, 4), torch.tensor([0, 3, 1])
    assert torch.autograd.gradgradcheck(SavesTheSoftmax.apply, (logits, targets))
    torch.testing.assert_close(
        hessian(lambda z: SavesTheSoftmax.apply(z, targets))(logits.detach()),
        hessian(lambda z: functional.cross_entropy(z, targets))(logits.detach()),
    )
