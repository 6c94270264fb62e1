"""Moves that undo each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradsmith.derive.graph import Node
from gradsmith.derive.simplify.matching import Args, Rewrite, is_op

if TYPE_CHECKING:
    from gradsmith.derive.trace import Tracer


def undoes(op: str, *same: str) -> Rewrite:
    """An operation that undoes the one before it."""

    def rewrite(tracer: Tracer, args: Args) -> Node | None:
        x = args["input"]
        if isinstance(x, Node) and x.op == op and all(x.args[key] == args[key] for key in same):
            return x.args["input"]  # type: ignore[no-any-return]
        return None

    return rewrite


def transposed(tracer: Tracer, args: Args) -> Node | None:
    """x.mT.mT = x, and (a @ b.mT).mT = b @ a.mT."""
    x = args["input"]
    if not _swaps_last_two(args, x.shape):
        return None
    if x.op in ("mT", "transpose") and _swaps_last_two(x.args, x.shape):
        return x.args["input"]  # type: ignore[no-any-return]
    if is_op(x, "matmul"):
        left, right = x.args["input"], x.args["other"]
        if len(left.shape) > 1 < len(right.shape) and any(factor.op == "mT" for factor in (left, right)):
            return tracer.call("matmul", input=tracer.call("mT", input=right), other=tracer.call("mT", input=left))
    return None


def _swaps_last_two(args: Args, shape: tuple[int, ...]) -> bool:
    if "dim0" not in args:
        return True
    dims = [args["dim0"], args["dim1"]]
    return all(type(dim) is int for dim in dims) and {dim % len(shape) - len(shape) for dim in dims} == {-1, -2}


def summed_twice(tracer: Tracer, args: Args) -> Node | None:
    """A sum over repeated dimensions that are then summed to a size anyway."""
    x = args["input"]
    if is_op(x, "sum_to_size") or (is_op(x, "sum") and x.args["keepdim"]):
        return tracer.call("sum_to_size", input=x.args["input"], size=args["size"])
    return None


def reshaped_twice(tracer: Tracer, args: Args) -> Node | None:
    x = args["input"]
    return tracer.call("reshape", input=x.args["input"], shape=args["shape"]) if is_op(x, "reshape") else None
