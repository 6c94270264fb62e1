"""Algebra on what the rules compute, done while it is recorded: the same value by fewer and simpler operations.

Each rewrite looks at one operation and its inputs, and returns the node to use instead. What the author's forward
computes is never changed, and never taken apart, since it may be there already.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gradsmith.derive.graph import Node

if TYPE_CHECKING:
    from gradsmith.derive.trace import Tracer

Args = dict[str, Any]
Rewrite = Callable[["Tracer", Args], Node | None]


def simplify(tracer: Tracer, op: str, args: Args) -> Node | None:
    """A simpler node with the value of `op` applied to `args`, or None."""
    for rewrite in _REWRITES.get(op, ()):
        node = rewrite(tracer, args)
        if node is not None:
            return node
    return None


# ---- what a node is ------------------------------------------------------------------------------------------------


def _is(value: Any, op: str) -> bool:
    """Whether a value is this operation on tensors, and free to be taken apart."""
    return isinstance(value, Node) and value.op == op and value.is_tensor and not value.authored


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _shape_of(value: Any) -> tuple[int, ...]:
    return value.shape if isinstance(value, Node) and value.is_tensor else ()


def _is_scalar(value: Any) -> bool:
    """A number, or a tensor without dimensions: it may be multiplied at any place."""
    return _shape_of(value) == ()


# ---- signs and numbers ---------------------------------------------------------------------------------------------


def _neg(tracer: Tracer, args: Args) -> Node | None:
    x = args["input"]
    if _is(x, "neg"):
        return x.args["input"]  # type: ignore[no-any-return]
    if _is(x, "sub"):
        return tracer.call("sub", input=x.args["other"], other=x.args["input"])
    if _is(x, "mul"):
        for one, two in (("input", "other"), ("other", "input")):
            if _is_number(x.args[one]):
                return tracer.call("mul", **{one: -x.args[one], two: x.args[two]})
    return None


def _times_number(tracer: Tracer, args: Args) -> Node | None:
    """1 * x, -1 * x, 2 * (3 * x), and numbers come first."""
    number, x = args["input"], args["other"]
    if _is_number(x) and not _is_number(number):
        return tracer.call("mul", input=x, other=number)
    if not _is_number(number):
        return None
    if number == 1:
        return x  # type: ignore[no-any-return]
    if number == -1:
        return tracer.call("neg", input=x)
    if _is(x, "mul") and _is_number(x.args["input"]):
        return tracer.call("mul", input=number * x.args["input"], other=x.args["other"])
    return None


def _number_over(tracer: Tracer, args: Args) -> Node | None:
    """2 * a / b = 2 * (a / b)."""
    x = args["input"]
    if _is(x, "mul") and _is_number(x.args["input"]) and isinstance(args["other"], Node):
        ratio = tracer.call("div", input=x.args["other"], other=args["other"])
        return tracer.call("mul", input=x.args["input"], other=ratio)
    return None


def _numbers_out(tracer: Tracer, args: Args) -> Node | None:
    """a * (2 * b) = 2 * (a * b)."""
    for one, two in (("input", "other"), ("other", "input")):
        scaled, other = args[one], args[two]
        if _is(scaled, "mul") and _is_number(scaled.args["input"]) and not _is_number(other):
            product = tracer.call("mul", **{one: scaled.args["other"], two: other})
            return tracer.call("mul", input=scaled.args["input"], other=product)
    return None


def _signs_out(op: str) -> Rewrite:
    """(-a) * b = -(a * b), and so for division."""

    def rewrite(tracer: Tracer, args: Args) -> Node | None:
        left, right = args["input"], args["other"]
        if _is(left, "neg"):
            return tracer.call("neg", input=tracer.call(op, input=left.args["input"], other=right))
        if _is(right, "neg"):
            return tracer.call("neg", input=tracer.call(op, input=left, other=right.args["input"]))
        return None

    return rewrite


def _by_one(tracer: Tracer, args: Args) -> Node | None:
    number = args.get("other", args.get("exponent"))
    return args["input"] if _is_number(number) and number == 1 and isinstance(args["input"], Node) else None


def _add(tracer: Tracer, args: Args) -> Node | None:
    left, right = args["input"], args["other"]
    if left is right:
        return tracer.call("mul", input=2, other=left)
    if _is(right, "neg"):
        return tracer.call("sub", input=left, other=right.args["input"])
    if _is(left, "neg"):
        return tracer.call("sub", input=right, other=left.args["input"])
    for one, two in ((left, right), (right, left)):
        if _is_negative(two):
            return tracer.call("sub", input=one, other=tracer.call("neg", input=two))
    return None


def _is_negative(value: Any) -> bool:
    """Whether a value is a product with a negative number."""
    return _is(value, "mul") and _is_number(value.args["input"]) and value.args["input"] < 0


def _sub(tracer: Tracer, args: Args) -> Node | None:
    left, right = args["input"], args["other"]
    if _is(right, "neg"):
        return tracer.call("add", input=left, other=right.args["input"])
    if _is_negative(right):
        return tracer.call("add", input=left, other=tracer.call("neg", input=right))
    if _is(left, "neg"):
        return tracer.call("neg", input=tracer.call("add", input=left.args["input"], other=right))
    return None


# ---- common factors ------------------------------------------------------------------------------------------------


def _factored(op: str) -> Rewrite:
    """a * b + a * c = a * (b + c)."""

    def rewrite(tracer: Tracer, args: Args) -> Node | None:
        left, right = _factors(args["input"]), _factors(args["other"])
        common = [factor for factor in left if isinstance(factor, Node) and factor in right]
        if not common or not any(factor.is_tensor for factor in common):
            return None
        left, right = _without(left, common), _without(right, common)
        rests = [_product(tracer, left), _product(tracer, right)]
        if not any(isinstance(rest, Node) and rest.is_tensor for rest in rests):
            if not all(_is_number(rest) for rest in rests):
                return None
            total: Any = rests[0] + rests[1] if op == "add" else rests[0] - rests[1]
        else:
            total = tracer.call(op, input=rests[0], other=rests[1])
        return tracer.call("mul", input=_product(tracer, common), other=total)

    return rewrite


def _factors(value: Any) -> list[Any]:
    if _is(value, "mul"):
        return [*_factors(value.args["input"]), *_factors(value.args["other"])]
    return [value]


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
        both = _is_number(product) and _is_number(factor)
        product = product * factor if both else tracer.call("mul", input=product, other=factor)
    return product


# ---- broadcasting --------------------------------------------------------------------------------------------------


def _without_expand(op: str, *places: str) -> Rewrite:
    """An operand need not be expanded where another has the full shape; else the result is expanded instead."""

    def rewrite(tracer: Tracer, args: Args) -> Node | None:
        expanded = [place for place in places if _is(args[place], "expand")]
        if not expanded:
            return None
        others = [args[place] for place in places if place not in expanded]
        full = args[expanded[0]].shape
        small = {place: args[place].args["input"] for place in expanded}
        if any(_shape_of(other) == full for other in others):
            return tracer.call(op, **{**args, **small})
        sizes = {args[place].args["size"] for place in expanded}
        if len(sizes) > 1 or not all(_is_scalar(other) for other in others):
            return None
        result = tracer.call(op, **{**args, **small})
        return tracer.call("expand", input=result, size=sizes.pop())

    return rewrite


def _same_shape(tracer: Tracer, args: Args) -> Node | None:
    """A reshape or expansion to the shape that the tensor has."""
    x = args["input"]
    sizes = args.get("shape", args.get("size"))
    assert sizes is not None
    wanted = tuple(size.value if isinstance(size, Node) else size for size in sizes)
    return x if x.shape == wanted else None


def _sum(tracer: Tracer, args: Args) -> Node | None:
    """Σ a * b = b * Σ a where b is constant along the dimensions of the sum."""
    x, dim, keepdim = args["input"], args["dim"], args["keepdim"]
    if _is(x, "neg"):
        return tracer.call("neg", input=tracer.call("sum", **{**args, "input": x.args["input"]}))
    for op in ("mul", "div"):
        if not _is(x, op):
            continue
        for one, two in (("other", "input"), ("input", "other"))[: 2 if op == "mul" else 1]:
            fixed, varying = x.args[one], x.args[two]
            if _shape_of(varying) == x.shape and (_is_scalar(fixed) or (keepdim and _is_flat(fixed, dim, x.shape))):
                total = tracer.call("sum", **{**args, "input": varying})
                return tracer.call(op, **{one: fixed, two: total})
    return None


def _is_flat(value: Any, dim: Any, shape: tuple[int, ...]) -> bool:
    """Whether a tensor has size 1 along `dim`, where the product that it is a factor of has more."""
    if dim is None or not isinstance(value, Node) or len(value.shape) != len(shape):
        return False
    dims = dim if isinstance(dim, tuple) else (dim,)
    places = [d.value if isinstance(d, Node) else d for d in dims]
    return all(value.shape[d] == 1 != shape[d] for d in places)


def _mean(tracer: Tracer, args: Args) -> Node | None:
    """A sum over a dimension divided by its size."""
    total, size = args["input"], args["other"]
    if _is(total, "mul"):
        for one, two in (("input", "other"), ("other", "input")):
            mean = _mean(tracer, {"input": total.args[one], "other": size})
            if mean is not None:
                return tracer.call("mul", **{one: mean, two: total.args[two]})
    if not _is(total, "sum") or not isinstance(size, Node):
        return None
    x, dim = total.args["input"], total.args["dim"]
    whole = dim is None and size.op == "numel" and size.args["input"].shape == x.shape
    along = type(dim) is int and size.op == "size" and _size_along(size, len(x.shape)) == (x.shape, dim % len(x.shape))
    if not whole and not along:
        return None
    return tracer.call("mean", input=x, dim=dim, keepdim=total.args["keepdim"])


def _size_along(size: Node, rank: int) -> tuple[tuple[int, ...], int] | None:
    shape, dim = size.args["input"].shape, size.args["dim"]
    return (shape, dim % rank) if len(shape) == rank and type(dim) is int else None


# ---- choices -------------------------------------------------------------------------------------------------------


def _into_where(op: str) -> Rewrite:
    """where(c, a, 0) * b = where(c, a * b, 0)."""

    def rewrite(tracer: Tracer, args: Args) -> Node | None:
        for one, two in (("input", "other"), ("other", "input"))[: 2 if op == "mul" else 1]:
            choice, factor = args[one], args[two]
            if not _is(choice, "where") or not _is_one_zero(choice):
                continue
            branches = {
                key: choice.args[key] if _is_zero(choice.args[key]) else tracer.call(op, **{one: choice.args[key], two: factor})
                for key in ("input", "other")
            }
            return tracer.call("where", condition=choice.args["condition"], **branches)
        return None

    return rewrite


def _one_choice(tracer: Tracer, args: Args) -> Node | None:
    """where(c, a, 0) + where(c, 0, b) = where(c, a, b)."""
    left, right = args["input"], args["other"]
    if not (_is(left, "where") and _is(right, "where") and _is_one_zero(left) and _is_one_zero(right)):
        return None
    condition = left.args["condition"]
    if condition is not right.args["condition"] or _is_zero(left.args["input"]) == _is_zero(right.args["input"]):
        return None
    one, two = (left, right) if _is_zero(left.args["other"]) else (right, left)
    return tracer.call("where", condition=condition, input=one.args["input"], other=two.args["other"])


def _is_zero(value: Any) -> bool:
    return _is_number(value) and value == 0


def _is_one_zero(choice: Node) -> bool:
    return _is_zero(choice.args["input"]) != _is_zero(choice.args["other"])


# ---- undoing -------------------------------------------------------------------------------------------------------


def _undoes(op: str, *same: str) -> Rewrite:
    """An operation that undoes the one before it."""

    def rewrite(tracer: Tracer, args: Args) -> Node | None:
        x = args["input"]
        if isinstance(x, Node) and x.op == op and all(x.args[key] == args[key] for key in same):
            return x.args["input"]  # type: ignore[no-any-return]
        return None

    return rewrite


def _transposed(tracer: Tracer, args: Args) -> Node | None:
    """x.mT.mT = x, and (a @ b.mT).mT = b @ a.mT."""
    x = args["input"]
    if not _swaps_last_two(args, x.shape):
        return None
    if x.op in ("mT", "transpose") and _swaps_last_two(x.args, x.shape):
        return x.args["input"]  # type: ignore[no-any-return]
    if _is(x, "matmul"):
        left, right = x.args["input"], x.args["other"]
        if len(left.shape) > 1 < len(right.shape) and any(factor.op == "mT" for factor in (left, right)):
            return tracer.call("matmul", input=tracer.call("mT", input=right), other=tracer.call("mT", input=left))
    return None


def _swaps_last_two(args: Args, shape: tuple[int, ...]) -> bool:
    if "dim0" not in args:
        return True
    dims = [args["dim0"], args["dim1"]]
    return all(type(dim) is int for dim in dims) and {dim % len(shape) - len(shape) for dim in dims} == {-1, -2}


def _unsqueezed_after(op: str, *places: str) -> Rewrite:
    """Computing on tensors that were all unsqueezed is unsqueezing what is computed."""

    def rewrite(tracer: Tracer, args: Args) -> Node | None:
        tensors = [args[place] for place in places if not _is_scalar(args[place])]
        if not tensors or not all(_is(x, "unsqueeze") and x.args["dim"] == tensors[0].args["dim"] for x in tensors):
            return None
        if len({x.shape for x in tensors}) > 1:
            return None
        small = {place: args[place].args["input"] if args[place] in tensors else args[place] for place in places}
        result = tracer.call(op, **{**args, **small})
        return tracer.call("unsqueeze", input=result, dim=tensors[0].args["dim"])

    return rewrite


def _reshaped_twice(tracer: Tracer, args: Args) -> Node | None:
    x = args["input"]
    return tracer.call("reshape", input=x.args["input"], shape=args["shape"]) if _is(x, "reshape") else None


def _broadcasting(op: str, *places: str) -> tuple[Rewrite, ...]:
    return _without_expand(op, *places), _unsqueezed_after(op, *places)


_OPERANDS = ("input", "other")
_REWRITES: dict[str, tuple[Rewrite, ...]] = {
    "neg": (_neg, *_broadcasting("neg", "input")),
    "mul": (
        _times_number,
        _signs_out("mul"),
        _numbers_out,
        *_broadcasting("mul", *_OPERANDS),
        _into_where("mul"),
    ),
    "div": (_by_one, _signs_out("div"), _number_over, _mean, *_broadcasting("div", *_OPERANDS), _into_where("div")),
    "pow": (_by_one,),
    "add": (_add, *_broadcasting("add", *_OPERANDS), _one_choice, _factored("add")),
    "sub": (_sub, *_broadcasting("sub", *_OPERANDS), _factored("sub")),
    "where": _broadcasting("where", "condition", *_OPERANDS),
    **{op: _broadcasting(op, *_OPERANDS) for op in ("eq", "ne", "lt", "le", "gt", "ge")},
    "sum": (_sum,),
    "reshape": (_same_shape, _reshaped_twice),
    "expand": (_same_shape,),
    "transpose": (_transposed, _undoes("transpose", "dim0", "dim1")),
    "mT": (_transposed,),
    "T": (_undoes("T"),),
    "squeeze": (_undoes("unsqueeze", "dim"),),
    "unsqueeze": (_undoes("squeeze", "dim"),),
}
