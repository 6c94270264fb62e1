"""Every way to differentiate a function of several tensors: `run(*tensors)` returns a tuple of tensors.

Each route returns a flat list of tensors. None, which is what autograd calls a zero, becomes zeros, so that a route on
which a gradient is lost differs from its oracle.
"""

from dataclasses import dataclass
from functools import partial

import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vjp


def weights(value):
    """An upstream gradient or a tangent that is another number for every element."""
    return torch.linspace(0.5, 1.5, value.numel(), dtype=value.dtype).reshape(value.shape)


def loss(run):
    """A scalar of all outputs, curved, so that in a second derivative the upstream depends on the arguments."""
    return lambda *xs: sum(((out * weights(out)).sin() + out).sum() for out in run(*xs))


def weighted(tensors):
    return sum((tensor * weights(tensor)).sum() for tensor in tensors)


def leaves(xs):
    return [x.detach().requires_grad_() for x in xs]


def filled(grads, xs):
    return [torch.zeros_like(x) if g is None else g for g, x in zip(grads, xs, strict=True)]


def every(xs):
    return tuple(range(len(xs)))


def flat(nested):
    return [nested] if isinstance(nested, Tensor) else [one for part in nested for one in flat(part)]


# ---- reverse mode -------------------------------------------------------------------------------------------------


def value(run, *xs):
    return list(run(*xs))


def backward(run, *xs):
    xs = leaves(xs)
    loss(run)(*xs).backward()
    return filled([x.grad for x in xs], xs)


def autograd_grad(run, *xs, **options):
    xs = leaves(xs)
    total = loss(run)(*xs)
    if not total.requires_grad:  # no output depends on these arguments
        return filled([None] * len(xs), xs)
    return filled(torch.autograd.grad(total, xs, **options), xs)


def given_upstream(make, run, *xs):
    xs = leaves(xs)
    outs = run(*xs)
    return filled(torch.autograd.grad(outs, xs, [make(out) for out in outs], allow_unused=True), xs)


def expanded(out):
    return torch.tensor(0.7, dtype=out.dtype).expand(out.shape)


def each_output_element(run, *xs):
    """One element at a time over one graph: a later backward must not differ from an earlier one."""
    xs = leaves(xs)
    elements = [element for out in run(*xs) for element in out.reshape(-1)]
    rows = [torch.autograd.grad(e, xs, retain_graph=True, allow_unused=True) for e in elements]
    return [g for row in rows for g in filled(row, xs)]


def batched_upstream(run, *xs):
    xs = leaves(xs)
    outs = run(*xs)
    upstream = [torch.stack([weights(out), -2 * weights(out)]) for out in outs]
    grads = torch.autograd.grad(outs, xs, upstream, is_grads_batched=True, allow_unused=True)
    return filled(grads, [torch.stack([x, x]) for x in xs])


def one_argument_at_a_time(run, *xs):
    """The others are constants, so each call needs other gradients and saves other things."""
    return [
        autograd_grad(lambda x, i=i: run(*xs[:i], x, *xs[i + 1 :]), x, allow_unused=True)[0] for i, x in enumerate(xs)
    ]


# ---- higher orders ------------------------------------------------------------------------------------------------


def again(times, first, run, *xs):
    """The gradient of `first(run)`, then of the weighted sum of what that gave, so many times."""
    xs = leaves(xs)
    total = first(run)(*xs)
    for _ in range(times):
        grads = filled(torch.autograd.grad(total, xs, create_graph=True, allow_unused=True), xs)
        total = weighted(grads)
    if not total.requires_grad:
        return [torch.zeros_like(x) for x in xs]
    return filled(torch.autograd.grad(total, xs, allow_unused=True), xs)


def total(run):
    return lambda *xs: sum(out.sum() for out in run(*xs))


def gradient_penalty(run, *xs):
    xs = leaves(xs)
    loss(run)(*xs).backward(create_graph=True)
    penalty = sum((x.grad**2).sum() for x in xs if x.grad is not None) + 0 * total(lambda *xs: xs)(*xs)
    for x in xs:
        x.grad = None
    penalty.backward()
    return filled([x.grad for x in xs], xs)


def grad_of_grad(run, *xs):
    inner = grad(loss(run), every(xs))
    return list(grad(lambda *ys: weighted(inner(*ys)), every(xs))(*xs))


def jacobian_of_jacobian(outer, inner, run, *xs):
    return flat(outer(inner(run, every(xs)), every(xs))(*xs))


def hessian_vector_product(run, *xs):
    return list(jvp(grad(loss(run), every(xs)), xs, tuple(weights(x) for x in xs))[1])


# ---- forward mode -------------------------------------------------------------------------------------------------


def dual_numbers(run, *xs):
    with forward_ad.dual_level():
        outs = run(*[forward_ad.make_dual(x, weights(x)) for x in xs])
        return filled([forward_ad.unpack_dual(out).tangent for out in outs], outs)


def dual_number_of_the_last(run, *xs):
    with forward_ad.dual_level():
        outs = run(*xs[:-1], forward_ad.make_dual(xs[-1], weights(xs[-1])))
        return filled([forward_ad.unpack_dual(out).tangent for out in outs], outs)


def dual_numbers_through_a_backward(run, *xs):
    with forward_ad.dual_level():
        duals = [forward_ad.make_dual(x, weights(x)) for x in leaves(xs)]
        grads = torch.autograd.grad(loss(run)(*duals), duals, create_graph=True, allow_unused=True)
        tangents = [None if g is None else forward_ad.unpack_dual(g).tangent for g in grads]
        return [t.detach() for t in filled(tangents, xs)]


@dataclass(frozen=True)
class Route:
    derive: object
    order: int = 1


REVERSE = {
    "value": Route(value, 0),
    ".backward": Route(backward),
    "autograd.grad": Route(partial(autograd_grad, materialize_grads=True)),
    "autograd.grad allow_unused": Route(partial(autograd_grad, allow_unused=True)),
    "one argument at a time": Route(one_argument_at_a_time),
    "constant upstream": Route(partial(given_upstream, weights)),
    "expanded upstream": Route(partial(given_upstream, expanded)),
    "each output element": Route(each_output_element),
    "batched upstream": Route(batched_upstream),
    "func.grad": Route(lambda run, *xs: list(grad(loss(run), every(xs))(*xs))),
    "func.vjp": Route(lambda run, *xs: list(vjp(run, *xs)[1](tuple(weights(out).detach() for out in run(*xs))))),
    "jacrev": Route(lambda run, *xs: flat(jacrev(run, every(xs))(*xs))),
}
FORWARD = {
    "func.jvp": Route(lambda run, *xs: list(jvp(run, xs, tuple(weights(x) for x in xs))[1])),
    "jacfwd": Route(lambda run, *xs: flat(jacfwd(run, every(xs))(*xs))),
    "dual numbers": Route(dual_numbers),
    "dual number of the last argument": Route(dual_number_of_the_last),
}
HIGHER = {
    "second order": Route(partial(again, 1, loss), 2),
    "second order, constant upstream": Route(partial(again, 1, total), 2),
    "third order": Route(partial(again, 2, loss), 3),
    "gradient penalty": Route(gradient_penalty, 2),
    "grad of grad": Route(grad_of_grad, 2),
    "hessian": Route(lambda run, *xs: flat(hessian(loss(run), every(xs))(*xs)), 2),
    "jvp of grad": Route(hessian_vector_product, 2),
    "dual numbers through a backward": Route(dual_numbers_through_a_backward, 2),
    "jacfwd of jacrev": Route(partial(jacobian_of_jacobian, jacfwd, jacrev), 2),
    "jacrev of jacfwd": Route(partial(jacobian_of_jacobian, jacrev, jacfwd), 2),
    "jacrev of jacrev": Route(partial(jacobian_of_jacobian, jacrev, jacrev), 2),
    "jacfwd of jacfwd": Route(partial(jacobian_of_jacobian, jacfwd, jacfwd), 2),
}
ROUTES_OF_SEVERAL = {**REVERSE, **FORWARD, **HIGHER}
