"""Algebra on what the rules compute, done while it is recorded: the same value by fewer and simpler operations.

Each rewrite looks at one operation and its inputs, and returns the node to use instead. What the author's forward
computes is never changed, and never taken apart, since it may be there already.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradsmith.derive.graph import Node
from gradsmith.derive.simplify.arithmetic import (
    added,
    by_one,
    factored,
    negated,
    number_over,
    numbers_out,
    signs_out,
    subtracted,
    times_number,
)
from gradsmith.derive.simplify.broadcasting import (
    averaged,
    into_where,
    one_choice,
    same_shape,
    summed,
    unsqueezed_after,
    without_expand,
)
from gradsmith.derive.simplify.matching import Args, Rewrite
from gradsmith.derive.simplify.undoing import reshaped_twice, summed_twice, transposed, undoes

if TYPE_CHECKING:
    from gradsmith.derive.trace import Tracer


def simplify(tracer: Tracer, op: str, args: Args) -> Node | None:
    """A simpler node with the value of `op` applied to `args`, or None."""
    for rewrite in _REWRITES.get(op, ()):
        node = rewrite(tracer, args)
        if node is not None:
            return node
    return None


def broadcasting(op: str, *places: str) -> tuple[Rewrite, ...]:
    return without_expand(op, *places), unsqueezed_after(op, *places)


_OPERANDS = ("input", "other")
_REWRITES: dict[str, tuple[Rewrite, ...]] = {
    "neg": (negated, *broadcasting("neg", "input")),
    "mul": (
        times_number,
        signs_out("mul"),
        numbers_out,
        *broadcasting("mul", *_OPERANDS),
        into_where("mul"),
    ),
    "div": (by_one, signs_out("div"), number_over, averaged, *broadcasting("div", *_OPERANDS), into_where("div")),
    "pow": (by_one,),
    "add": (added, *broadcasting("add", *_OPERANDS), one_choice, factored("add")),
    "sub": (subtracted, *broadcasting("sub", *_OPERANDS), factored("sub")),
    "where": broadcasting("where", "condition", *_OPERANDS),
    **{op: broadcasting(op, *_OPERANDS) for op in ("eq", "ne", "lt", "le", "gt", "ge")},
    "sum": (summed,),
    "reshape": (same_shape, reshaped_twice),
    "expand": (same_shape,),
    "sum_to_size": (summed_twice,),
    "transpose": (transposed, undoes("transpose", "dim0", "dim1")),
    "mT": (transposed,),
    "T": (undoes("T"),),
    "squeeze": (undoes("unsqueeze", "dim"),),
    "unsqueeze": (undoes("squeeze", "dim"),),
}
