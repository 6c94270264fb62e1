"""The functions of the behaviour suite, by what their gradient saves, each in three styles.

Every rule is three times the derivative of its forward. So a route that differentiates the forward, instead of using
the rule, is found out: the oracle, `3 f(x) - 2 stop(f(x))`, has the value of f and three times every derivative. A rule
that uses the output is differentiated through itself: its oracle is `exp(3 x) stop(exp(-2 x))`, whose derivatives are
3, 9, 27 times the value.
"""

from dataclasses import dataclass

import numpy
import torch

import gradsmith as gs


@dataclass(frozen=True)
class Subject:
    """One function in one style, and what it must equal."""

    call: object
    oracle: object


MASK = torch.tensor([1.0, 0.0, 2.0], dtype=torch.float64)
OTHER = torch.tensor([0.5, -1.5, 2.0], dtype=torch.float64)


def lse_with_residual(x):
    lse = torch.logsumexp(x, -1, keepdim=True)
    return gs.keep(lse.squeeze(-1), lse=lse)


def masked_with_constant(x):
    mask = MASK.to(x.dtype).clone()
    return gs.keep(x * mask, mask=gs.constant(mask))


product = gs.op(lambda x, y: x * y, x=lambda grad, y: 3 * grad * y, y=lambda grad, x: 3 * grad * x)


def tripled(f):
    return lambda x: 3 * f(x) - 2 * f(x).detach()


ORACLES = {
    "nothing": tripled(lambda x: 2 * x),
    "the input": tripled(torch.sin),
    "the output": lambda x: torch.exp(3 * x) * torch.exp(-2 * x).detach(),
    "another argument": tripled(lambda x: x * OTHER),
    "a residual": tripled(lambda x: x.exp().sum(-1).log()),  # torch.logsumexp fails at reverse over dual numbers
    "a constant residual": tripled(lambda x: x * MASK),
    "a shape": tripled(lambda x: x.sum(-1)),
}

OPS = {
    "nothing": gs.op(lambda x: 2 * x, x=lambda grad: 6 * grad),
    "the input": gs.op(torch.sin, x=lambda grad, x: 3 * grad * x.cos()),
    "the output": gs.op(torch.exp, x=lambda grad, out: 3 * grad * out),
    "another argument": lambda x: product(x, OTHER),
    "a residual": gs.op(lse_with_residual, x=lambda grad, x, lse: 3 * grad.unsqueeze(-1) * (x - lse).exp()),
    "a constant residual": gs.op(masked_with_constant, x=lambda grad, mask: 3 * grad * mask),
    "a shape": gs.op(lambda x: x.sum(-1), x=lambda grad, x_shape: 3 * grad.unsqueeze(-1).expand(x_shape)),
}


def classic(forward, backward):
    """A class as in every tutorial: forward(ctx, x) and backward(ctx, grad)."""
    return type("Classic", (gs.Function,), {"forward": staticmethod(forward), "backward": staticmethod(backward)}).apply


def save(compute):
    """A forward that saves what `compute` says: it returns (out, tensors to save)."""

    def forward(ctx, x):
        out, tensors = compute(x)
        ctx.save_for_backward(*tensors)
        ctx.shape = x.shape
        return out

    return forward


def with_output(x):
    out = x.exp()
    return out, (out,)


def with_lse(x):
    lse = torch.logsumexp(x, -1, keepdim=True)
    return lse.squeeze(-1), (x, lse)


def lse_backward(ctx, grad):
    x, lse = ctx.saved_tensors
    return 3 * grad.unsqueeze(-1) * (x - lse).exp()


CLASSES = {
    "nothing": classic(save(lambda x: (2 * x, ())), lambda ctx, grad: 6 * grad),
    "the input": classic(save(lambda x: (x.sin(), (x,))), lambda ctx, grad: 3 * grad * ctx.saved_tensors[0].cos()),
    "the output": classic(save(with_output), lambda ctx, grad: 3 * grad * ctx.saved_tensors[0]),
    "another argument": classic(save(lambda x: (x * OTHER, ())), lambda ctx, grad: 3 * grad * OTHER),
    "a residual": classic(save(with_lse), lse_backward),
    "a shape": classic(save(lambda x: (x.sum(-1), ())), lambda ctx, grad: 3 * grad.unsqueeze(-1).expand(ctx.shape)),
}


def numpy_of(function):
    return gs.opaque(lambda x: torch.empty_like(x))(lambda x: function(x.numpy()))


OPAQUE = {
    "nothing": gs.op(numpy_of(lambda a: 2 * a), x=lambda grad: 6 * grad),
    "the input": gs.op(numpy_of(numpy.sin), x=lambda grad, x: 3 * grad * x.cos()),
    "the output": gs.op(numpy_of(numpy.exp), x=lambda grad, out: 3 * grad * out),
    "a shape": gs.op(
        gs.opaque(lambda x: x.new_empty(x.shape[:-1]))(lambda x: x.numpy().sum(-1)),
        x=lambda grad, x_shape: 3 * grad.unsqueeze(-1).expand(x_shape),
    ),
}

STYLES = {"op": OPS, "class": CLASSES, "opaque": OPAQUE}
SUBJECTS = {
    f"{style}, saves {saved}": Subject(function, ORACLES[saved])
    for style, functions in STYLES.items()
    for saved, function in functions.items()
}
