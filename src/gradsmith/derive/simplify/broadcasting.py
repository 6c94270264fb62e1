"""Operands that are repeated, sums over them, and choices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradsmith.derive.graph import Node
from gradsmith.derive.reduced import numbers_that_shape, reduced_dim
from gradsmith.derive.simplify.matching import Args, Rewrite, is_op, is_scalar, is_zero, shape_of

if TYPE_CHECKING:
    from gradsmith.derive.trace import Tracer


def without_expand(op: str, *places: str) -> Rewrite:
    """An operand need not be expanded where another has the full shape; else the result is expanded instead."""

    def rewrite(tracer: Tracer, args: Args) -> Node | None:
        expanded = [place for place in places if is_op(args[place], "expand")]
        if not expanded:
            return None
        others = [args[place] for place in places if place not in expanded]
        full = args[expanded[0]].shape
        small = {place: args[place].args["input"] for place in expanded}
        if any(shape_of(other) == full for other in others):
            return tracer.call(op, **{**args, **small})
        sizes = {args[place].args["size"] for place in expanded}
        if len(sizes) > 1 or not all(is_scalar(other) for other in others):
            return None
        result = tracer.call(op, **{**args, **small})
        return tracer.call("expand", input=result, size=sizes.pop())

    return rewrite


def same_shape(tracer: Tracer, args: Args) -> Node | None:
    """A reshape or expansion to the shape that the tensor has."""
    x = args["input"]
    sizes = args.get("shape", args.get("size"))
    assert sizes is not None
    wanted = tuple(size.value if isinstance(size, Node) else size for size in sizes)
    return x if x.shape == wanted else None


def summed(tracer: Tracer, args: Args) -> Node | None:
    """Σ a * b = b * Σ a where b is constant along the dimensions of the sum."""
    x, dim, keepdim = args["input"], args["dim"], args["keepdim"]
    if is_op(x, "neg"):
        return tracer.call("neg", input=tracer.call("sum", **{**args, "input": x.args["input"]}))
    for op in ("mul", "div"):
        if not is_op(x, op):
            continue
        for one, two in (("other", "input"), ("input", "other"))[: 2 if op == "mul" else 1]:
            fixed, varying = x.args[one], x.args[two]
            if shape_of(varying) == x.shape and (is_scalar(fixed) or (keepdim and _is_flat(fixed, dim, x.shape))):
                total = tracer.call("sum", **{**args, "input": varying})
                return tracer.call(op, **{one: fixed, two: total})
    return None


def _is_flat(value: Any, dim: Any, shape: tuple[int, ...]) -> bool:
    """Whether a tensor has size 1 along `dim`, where the product that it is a factor of has more."""
    if dim is None or not isinstance(value, Node) or len(value.shape) != len(shape):
        return False
    dims = dim if isinstance(dim, tuple) else (dim,)
    if any(isinstance(d, Node) for d in dims) or numbers_that_shape(value):
        return reduced_dim(value) is dim  # another dimension in another call, but the same one for both
    return all(value.shape[d] == 1 != shape[d] for d in dims)


def averaged(tracer: Tracer, args: Args) -> Node | None:
    """A sum over a dimension divided by its size."""
    total, size = args["input"], args["other"]
    if is_op(total, "mul"):
        for one, two in (("input", "other"), ("other", "input")):
            mean = averaged(tracer, {"input": total.args[one], "other": size})
            if mean is not None:
                return tracer.call("mul", **{one: mean, two: total.args[two]})
    if not is_op(total, "sum") or not isinstance(size, Node):
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


def unsqueezed_after(op: str, *places: str) -> Rewrite:
    """Computing on tensors that were all unsqueezed is unsqueezing what is computed."""

    def rewrite(tracer: Tracer, args: Args) -> Node | None:
        tensors = [args[place] for place in places if not is_scalar(args[place])]
        if not tensors or not all(is_op(x, "unsqueeze") and x.args["dim"] == tensors[0].args["dim"] for x in tensors):
            return None
        if len({x.shape for x in tensors}) > 1:
            return None
        small = {place: args[place].args["input"] if args[place] in tensors else args[place] for place in places}
        result = tracer.call(op, **{**args, **small})
        return tracer.call("unsqueeze", input=result, dim=tensors[0].args["dim"])

    return rewrite


def into_where(op: str) -> Rewrite:
    """where(c, a, 0) * b = where(c, a * b, 0)."""

    def rewrite(tracer: Tracer, args: Args) -> Node | None:
        for one, two in (("input", "other"), ("other", "input"))[: 2 if op == "mul" else 1]:
            choice, factor = args[one], args[two]
            if not is_op(choice, "where") or not _is_one_zero(choice):
                continue
            branches = {
                key: branch if is_zero(branch) else tracer.call(op, **{one: branch, two: factor})
                for key, branch in choice.args.items()
                if key != "condition"
            }
            return tracer.call("where", condition=choice.args["condition"], **branches)
        return None

    return rewrite


def one_choice(tracer: Tracer, args: Args) -> Node | None:
    """where(c, a, 0) + where(c, 0, b) = where(c, a, b)."""
    left, right = args["input"], args["other"]
    if not (is_op(left, "where") and is_op(right, "where") and _is_one_zero(left) and _is_one_zero(right)):
        return None
    condition = left.args["condition"]
    if condition is not right.args["condition"] or is_zero(left.args["input"]) == is_zero(right.args["input"]):
        return None
    one, two = (left, right) if is_zero(left.args["other"]) else (right, left)
    return tracer.call("where", condition=condition, input=one.args["input"], other=two.args["other"])


def _is_one_zero(choice: Node) -> bool:
    return is_zero(choice.args["input"]) != is_zero(choice.args["other"])
