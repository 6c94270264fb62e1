"""Functions by the shape of their call: arguments, containers, keywords, outputs.

The formulas give three times the derivative. Where nothing saved is an output, the oracle is `tripled(f(...))`.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from tables import Told, tripled

import gradsmith as gs


class Pair(NamedTuple):
    a: torch.Tensor
    b: torch.Tensor


@dataclass
class Record:
    a: torch.Tensor
    b: torch.Tensor
    power: int = 2


A3, B3 = (3,), (3,)
PAIRS = {
    "a list": (lambda a, b: [a, b], lambda both: (both[0], both[1])),
    "a tuple": (lambda a, b: (a, b), lambda both: (both[0], both[1])),
    "a dict": (lambda a, b: {"a": a, "b": b}, lambda both: (both["a"], both["b"])),
    "a named tuple": (Pair, lambda both: (both.a, both.b)),
    "a dataclass": (Record, lambda both: (both.a, both.b)),
    "a tree": (lambda a, b: {"deep": [(a, 2)], "b": b}, lambda both: (both["deep"][0][0], both["b"])),
}


def taking(make, take):
    """sin(a) * b, of both in a container."""

    def forward(both):
        a, b = take(both)
        return a.sin() * b

    def formula(grad, both):
        a, b = take(both)
        grads = make(3 * grad * a.cos() * b, 3 * grad * a.sin())
        return grads

    return Told(
        forward, {"both": formula}, lambda both: tripled(forward(both)), (A3, B3), lambda f, a, b: f(make(a, b))
    )


def giving(make, take):
    """a * b and sin(a), in a container."""

    def forward(a, b):
        return make(a * b, a.sin())

    def first(grad, a, b):
        product, sine = take(grad)
        return 3 * product * b + 3 * sine * a.cos()

    def second(grad, a):
        return 3 * take(grad)[0] * a

    return Told(forward, {"a": first, "b": second}, lambda a, b: tripled(forward(a, b)), (A3, B3), read=take)


ARGUMENTS = {
    "two": Told(
        lambda a, b: a.sin() * b,
        {"a": lambda grad, a, b: 3 * grad * a.cos() * b, "b": lambda grad, a: 3 * grad * a.sin()},
        lambda a, b: tripled(a.sin() * b),
        (A3, B3),
    ),
    "two, broadcast": Told(
        lambda a, b: a * b,
        {"a": lambda grad, b: 3 * grad * b, "b": lambda grad, a: 3 * grad * a},
        lambda a, b: tripled(a * b),
        ((2, 1), (3,)),
    ),
    "the same twice": Told(
        lambda a, b: a.sin() * b,
        {"a": lambda grad, a, b: 3 * grad * a.cos() * b, "b": lambda grad, a: 3 * grad * a.sin()},
        lambda a, b: tripled(a.sin() * b),
        (A3,),
        lambda f, x: f(x, x),
    ),
    "three, one formula for two": Told(
        lambda input, weight, bias: input @ weight.mT + bias,
        {
            ("input", "weight"): lambda grad, input, weight, needs: (
                3 * grad @ weight if needs["input"] else None,
                3 * grad.mT @ input if needs["weight"] else None,
            ),
            "bias": lambda grad: 3 * grad.sum(0),
        },
        lambda input, weight, bias: tripled(input @ weight.mT + bias),
        ((2, 3), (2, 3), (2,)),
    ),
    "None": Told(
        lambda x, bias=None: x.sin() if bias is None else x.sin() + bias,
        {"x": lambda grad, x: 3 * grad * x.cos(), "bias": lambda grad: 3 * grad},
        lambda x, bias=None: tripled(x.sin()),
        (A3,),
        lambda f, x: f(x, None),
    ),
    "plain values, defaults and keywords only": Told(
        lambda x, power=2, *, shift=0.0, scale: x**power * scale + shift,
        {
            "x": lambda grad, x, power, scale: 3 * grad * power * x ** (power - 1) * scale,
            "scale": lambda grad, x, power: 3 * grad * x**power,
        },
        lambda x, power=2, *, shift=0.0, scale: tripled(x**power * scale + shift),
        (A3, B3),
        lambda f, x, scale: f(x, power=3, scale=scale),
    ),
    "integers": Told(
        lambda table, rows: table[rows],
        {
            "table": lambda grad, rows, table_shape: (
                3 * grad.new_zeros(table_shape).index_put((rows,), grad, accumulate=True)
            )
        },
        lambda table, rows: tripled(table[rows]),
        ((3, 2),),
        lambda f, table: f(table, torch.tensor([2, 0, 2])),
    ),
    "variadic": Told(
        lambda *xs, scale, **more: (sum(xs) * scale).sin() + sum(more.values()),
        {
            "xs": lambda grad, xs, scale: tuple(3 * grad * scale * (sum(xs) * scale).cos() for _ in xs),
            "scale": lambda grad, xs, scale: 3 * grad * sum(xs) * (sum(xs) * scale).cos(),
            "more": lambda grad, more: dict.fromkeys(more, 3 * grad),
        },
        lambda *xs, scale, **more: tripled((sum(xs) * scale).sin() + sum(more.values())),
        (A3, A3, A3, A3),
        lambda f, a, b, c, d: f(a, b, scale=c, extra=d),
    ),
    "residuals of both": Told(
        lambda a, b: gs.keep(a.sin() * b.exp(), sine=a.sin(), growth=b.exp()),
        {
            "a": lambda grad, a, b, growth: 3 * grad * a.cos() * growth,
            "b": lambda grad, a, b, sine, growth: 3 * grad * sine * growth,
        },
        lambda a, b: tripled(a.sin() * b.exp()),
        (A3, B3),
    ),
    "an integer residual": Told(
        lambda x: gs.keep(x.sort().values ** 2, order=x.sort().indices),
        {"x": lambda grad, x, order: 3 * torch.zeros_like(x).scatter(-1, order, 2 * grad * x.gather(-1, order))},
        lambda x: tripled(x.sort().values ** 2),
        (A3,),
    ),
    "two, once differentiable": Told(
        lambda a, b: a.sin() * b,
        {"a": lambda grad, a, b: 3 * grad * a.cos() * b, "b": lambda grad, a: 3 * grad * a.sin()},
        lambda a, b: tripled(a.sin() * b),
        (A3, B3),
        options={"once": True},
        refused=gs.SecondDerivativeError,
    ),
    **{f"in {name}": taking(make, take) for name, (make, take) in PAIRS.items()},
}

TWO = {"outputs": ("product", "sine")}
TWO_FORMULAS = {
    "a": lambda grad_product, grad_sine, a, b: 3 * grad_product * b + 3 * grad_sine * a.cos(),
    "b": lambda grad_product, a: 3 * grad_product * a,
}


def two(a, b):
    return a * b, a.sin()


OUTPUTS = {
    "two": Told(two, TWO_FORMULAS, lambda a, b: tripled(two(a, b)), (A3, B3), options=TWO),
    "two, the first used": Told(
        two, TWO_FORMULAS, lambda a, b: tripled(two(a, b)), (A3, B3), read=lambda outs: outs[0], options=TWO
    ),
    "two, the second used": Told(
        two, TWO_FORMULAS, lambda a, b: tripled(two(a, b)), (A3, B3), read=lambda outs: outs[1], options=TWO
    ),
    "two, one saved": Told(
        lambda x: (x.exp(), 2 * x),
        {"x": lambda grad_grown, grad_twice, grown: 3 * grad_grown * grown + 6 * grad_twice},
        lambda x: ((3 * x - 2 * x.detach()).exp(), tripled(2 * x)),
        (A3,),
        options={"outputs": ("grown", "twice")},
    ),
    "two, once differentiable": Told(
        two,
        TWO_FORMULAS,
        lambda a, b: tripled(two(a, b)),
        (A3, B3),
        options={**TWO, "once": True},
        refused=gs.SecondDerivativeError,
    ),
    "an integer one": Told(
        lambda x: tuple(x.sort()),
        {"x": lambda grad_values, order: 3 * torch.zeros_like(grad_values).scatter(-1, order, grad_values)},
        lambda x: tripled(tuple(x.sort())),
        (A3,),
        read=lambda outs: outs[0],
        options={"outputs": ("values", "order")},
    ),
    "None": Told(
        lambda x: (x.sin(), None),
        {"x": lambda grad_sine, x: 3 * grad_sine * x.cos()},
        lambda x: (tripled(x.sin()), None),
        (A3,),
        read=lambda outs: outs[0],
        options={"outputs": ("sine", "nothing")},
    ),
}
CONTAINERS_OUT = {
    f"in {name}": giving(make, take) for name, (make, take) in PAIRS.items() if name not in ("a tuple", "a tree")
}
