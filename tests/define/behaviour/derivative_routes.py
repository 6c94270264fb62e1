"""Every way to ask torch for a derivative, as a function of a function and a point."""

import torch
import torch.autograd.forward_ad as forward_ad
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vjp, vmap


def total(f):
    return lambda x: f(x).sum()


def leaf(x):
    return x.detach().clone().requires_grad_()


def backward(f, x):
    x = leaf(x)
    total(f)(x).backward()
    return x.grad


def autograd_grad(f, x, **options):
    x = leaf(x)
    return torch.autograd.grad(total(f)(x), x, **options)[0]


def weighted_upstream(f, x):
    x = leaf(x)
    out = f(x)
    return torch.autograd.grad(out, x, torch.linspace(-1, 2, out.numel(), dtype=out.dtype).reshape(out.shape))[0]


def again(order, allow_unused=False):
    """Differentiate `order` times, squaring in between so that every upstream depends on x."""

    def route(f, x):
        x = leaf(x)
        value = total(f)(x)
        for _ in range(order):
            (value,) = torch.autograd.grad((value * value).sum(), x, create_graph=True, allow_unused=allow_unused)
        return value

    return route


def constant_upstream(f, x):
    """The second derivative where the first upstream is a constant, as in a gradient penalty."""
    x = leaf(x)
    (first,) = torch.autograd.grad(total(f)(x), x, create_graph=True)
    penalty = (first * first).sum() + (x * x).sum()
    return torch.autograd.grad(penalty, x)[0]


def create_graph_backward(f, x):
    x = leaf(x)
    (total(f)(x) ** 2).backward(create_graph=True)
    first, x.grad = x.grad, None
    (first**2).sum().backward()
    return x.grad


def dual_numbers(f, x):
    with forward_ad.dual_level():
        return forward_ad.unpack_dual(f(forward_ad.make_dual(x, torch.ones_like(x)))).tangent


def reverse_over_dual(f, x):
    x = leaf(x)
    with forward_ad.dual_level():
        direction = torch.linspace(-1, 2, x.numel(), dtype=x.dtype).reshape(x.shape)
        tangent = forward_ad.unpack_dual(f(forward_ad.make_dual(x, direction))).tangent
        return torch.autograd.grad((tangent**2).sum() + (x * x).sum(), x)[0]


ROUTES = {
    "value": lambda f, x: f(x),
    ".backward": backward,
    "autograd.grad": autograd_grad,
    "autograd.grad allow_unused": lambda f, x: autograd_grad(f, x, allow_unused=True),
    "an upstream of its own": weighted_upstream,
    "second order": again(2),
    "second order allow_unused": again(2, allow_unused=True),
    "third order": again(3),
    "constant upstream": constant_upstream,
    "backward with create_graph": create_graph_backward,
    "func.grad": lambda f, x: grad(total(f))(x),
    "func.vjp": lambda f, x: vjp(f, x)[1](f(x).detach())[0],
    "jacrev": lambda f, x: jacrev(f)(x),
    "jacfwd": lambda f, x: jacfwd(f)(x),
    "func.jvp": lambda f, x: jvp(f, (x,), (torch.ones_like(x),))[1],
    "dual numbers": dual_numbers,
    "reverse over dual numbers": reverse_over_dual,
    "grad of grad": lambda f, x: grad(total(grad(lambda y: total(f)(y) ** 2)))(x),
    "hessian": lambda f, x: hessian(total(f))(x),
    "jacfwd of jacrev": lambda f, x: jacfwd(jacrev(f))(x),
    "jacrev of jacrev": lambda f, x: jacrev(jacrev(f))(x),
    "jacrev of jacfwd": lambda f, x: jacrev(jacfwd(f))(x),
    "jacfwd of jacfwd": lambda f, x: jacfwd(jacfwd(f))(x),
    "jacfwd three times": lambda f, x: jacfwd(jacfwd(jacfwd(f)))(x),
}


def batch(x):
    return torch.stack([x, x + 0.5, 2 * x, x - 1])


TRANSFORMS = {
    "vmap": lambda f, x: vmap(f)(batch(x)),
    "vmap over the last dimension": lambda f, x: vmap(f, in_dims=-1)(batch(x).mT),
    "vmap to the last dimension": lambda f, x: vmap(lambda y: f(y) * 1, out_dims=-1)(batch(x)),
    "nested vmap": lambda f, x: vmap(vmap(f))(torch.stack([batch(x), batch(x + 1)])),
    "nested vmap over two places": lambda f, x: vmap(vmap(f, in_dims=1), in_dims=2)(
        torch.stack([batch(x), batch(x + 1)]).permute(2, 1, 0)
    ),
    "vmap of grad": lambda f, x: vmap(grad(total(f)))(batch(x)),
    "vmap of jacfwd": lambda f, x: vmap(jacfwd(f))(batch(x)),
    "vmap of hessian": lambda f, x: vmap(hessian(total(f)))(batch(x)),
    "vmap of jacfwd of jacfwd": lambda f, x: vmap(jacfwd(jacfwd(f)))(batch(x)),
    "grad of vmap": lambda f, x: grad(lambda y: (vmap(f)(y) ** 2).sum())(batch(x)),
    "jacfwd of vmap": lambda f, x: jacfwd(vmap(f))(batch(x)),
    "jacrev of vmap": lambda f, x: jacrev(vmap(f))(batch(x)),
    "jacfwd of jacfwd of vmap": lambda f, x: jacfwd(jacfwd(vmap(f)))(batch(x)),
    "autograd over vmap, twice": lambda f, x: again(2)(vmap(f), batch(x)),
    "batched upstreams": lambda f, x: torch.autograd.functional.jacobian(f, x, vectorize=True),
}
