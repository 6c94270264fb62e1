"""Signs, numbers and common factors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradsmith.derive.graph import Node
from gradsmith.derive.simplify.matching import Args, Rewrite, is_number, is_op

if TYPE_CHECKING:
    from gradsmith.derive.trace import Tracer


def negated(tracer: Tracer, args: Args) -> Node | None:
    x = args["input"]
    if is_op(x, "neg"):
        return x.args["input"]  # type: ignore[no-any-return]
    if is_op(x, "sub"):
        return tracer.call("sub", input=x.args["other"], other=x.args["input"])
    if is_op(x, "mul"):
        for one, two in (("input", "other"), ("other", "input")):
            if is_number(x.args[one]):
                return tracer.call("mul", **{one: -x.args[one], two: x.args[two]})
    return None


def times_number(tracer: Tracer, args: Args) -> Node | None:
    """1 * x, -1 * x, 2 * (3 * x), and numbers come first."""
    number, x = args["input"], args["other"]
    if is_number(x) and not is_number(number):
        return tracer.call("mul", input=x, other=number)
    if not is_number(number):
        return None
    if number == 1:
        return x  # type: ignore[no-any-return]
    if number == -1:
        return tracer.call("neg", input=x)
    if is_op(x, "mul") and is_number(x.args["input"]):
        return tracer.call("mul", input=number * x.args["input"], other=x.args["other"])
    return None


def number_over(tracer: Tracer, args: Args) -> Node | None:
    """2 * a / b = 2 * (a / b)."""
    x = args["input"]
    if is_op(x, "mul") and is_number(x.args["input"]) and isinstance(args["other"], Node):
        ratio = tracer.call("div", input=x.args["other"], other=args["other"])
        return tracer.call("mul", input=x.args["input"], other=ratio)
    return None


def numbers_out(tracer: Tracer, args: Args) -> Node | None:
    """a * (2 * b) = 2 * (a * b)."""
    for one, two in (("input", "other"), ("other", "input")):
        scaled, other = args[one], args[two]
        if is_op(scaled, "mul") and is_number(scaled.args["input"]) and not is_number(other):
            product = tracer.call("mul", **{one: scaled.args["other"], two: other})
            return tracer.call("mul", input=scaled.args["input"], other=product)
    return None


def signs_out(op: str) -> Rewrite:
    """(-a) * b = -(a * b), and so for division."""

    def rewrite(tracer: Tracer, args: Args) -> Node | None:
        left, right = args["input"], args["other"]
        if is_op(left, "neg"):
            return tracer.call("neg", input=tracer.call(op, input=left.args["input"], other=right))
        if is_op(right, "neg"):
            return tracer.call("neg", input=tracer.call(op, input=left, other=right.args["input"]))
        return None

    return rewrite


def by_one(tracer: Tracer, args: Args) -> Node | None:
    number = args.get("other", args.get("exponent"))
    return args["input"] if is_number(number) and number == 1 and isinstance(args["input"], Node) else None


def added(tracer: Tracer, args: Args) -> Node | None:
    left, right = args["input"], args["other"]
    if left is right:
        return tracer.call("mul", input=2, other=left)
    if is_op(right, "neg"):
        return tracer.call("sub", input=left, other=right.args["input"])
    if is_op(left, "neg"):
        return tracer.call("sub", input=right, other=left.args["input"])
    for one, two in ((left, right), (right, left)):
        if _is_negative(two):
            return tracer.call("sub", input=one, other=tracer.call("neg", input=two))
    return None


def _is_negative(value: Any) -> bool:
    """Whether a value is a product with a negative number."""
    return is_op(value, "mul") and is_number(value.args["input"]) and value.args["input"] < 0


def subtracted(tracer: Tracer, args: Args) -> Node | None:
    left, right = args["input"], args["other"]
    if is_op(right, "neg"):
        return tracer.call("add", input=left, other=right.args["input"])
    if _is_negative(right):
        return tracer.call("add", input=left, other=tracer.call("neg", input=right))
    if is_op(left, "neg"):
        return tracer.call("neg", input=tracer.call("add", input=left.args["input"], other=right))
    return None


def factored(op: str) -> Rewrite:
    """a * b + a * c = a * (b + c)."""

    def rewrite(tracer: Tracer, args: Args) -> Node | None:
        left, right = _factors(args["input"]), _factors(args["other"])
        common = [factor for factor in left if isinstance(factor, Node) and factor in right]
        if not common or not any(factor.is_tensor for factor in common):
            return None
        left, right = _without(left, common), _without(right, common)
        rests = [_product(tracer, left), _product(tracer, right)]
        if not any(isinstance(rest, Node) and rest.is_tensor for rest in rests):
            if not all(is_number(rest) for rest in rests):
                return None
            total: Any = rests[0] + rests[1] if op == "add" else rests[0] - rests[1]
        else:
            total = tracer.call(op, input=rests[0], other=rests[1])
        return tracer.call("mul", input=_product(tracer, common), other=total)

    return rewrite


def _factors(value: Any) -> list[Any]:
    """The factors of a product, from the left."""
    factors: list[Any] = []
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if is_op(value, "mul"):
            waiting += [value.args["other"], value.args["input"]]
        else:
            factors.append(value)
    return factors


def _without(factors: list[Any], common: list[Node]) -> list[Any]:
    rest = list(factors)
    for factor in common:
        if factor in rest:
            rest.remove(factor)
    return rest


def _product(tracer: Tracer, factors: list[Any]) -> Any:
    if not factors:
        return 1
    product = factors[0]
    for factor in factors[1:]:
        both = is_number(product) and is_number(factor)
        product = product * factor if both else tracer.call("mul", input=product, other=factor)
    return product
