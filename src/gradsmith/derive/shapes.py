"""What the shape of a tensor is made of, so that the shape of one can be read off another for sure.

A shape is described by the tensors that it is the broadcast of. x and x + 1 have the shape {x}; x * y has the shape
{x, y}, and so has the gradient that arrives there. On the example all three may be alike, in another call not.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from gradsmith.derive.calls import rule_of
from gradsmith.derive.graph import Graph, Node, frozen

_KEPT = "kept"  # dimensions were reduced to 1: no larger than the broadcast, but perhaps smaller
_SHAPE_OF_INPUT = {
    *("softmax", "log_softmax", "cumsum", "layer_norm", "flip", "roll", "tril", "triu", "scatter", "scatter_add"),
    *("index_put", "index_add", "slice_scatter", "select_scatter", "zeros_like", "ones_like", "full_like"),
    *("rand_like", "randn_like", "bernoulli"),
}
_SHAPE_BY_SIZES = {"reshape": "shape", "view": "shape", "expand": "size", "sum_to_size": "size", "new_zeros": "size"}


@dataclass(frozen=True)
class Made:
    """The broadcast of `parts`; `reduced` says what was done to some of its dimensions."""

    parts: frozenset[Hashable]
    reduced: Hashable = None  # None, "kept", or the dimensions that were dropped, from the end


_SCALAR = Made(frozenset())


class Shapes:
    """The shapes of the nodes of a graph, those to come included."""

    def __init__(self, graph: Graph, outputs: dict[str, Node]) -> None:
        self._graph, self._outputs = graph, outputs
        self._made: dict[Node, Made] = {}

    def of(self, node: Node) -> Made:
        for earlier in self._graph.nodes[len(self._made) : node.index + 1]:
            self._made[earlier] = self._make(earlier)
        return self._made[node]

    def same(self, one: Node, other: Node) -> bool:
        """Whether two tensors have one shape in every call."""
        made = self.of(one)
        return one is other or (made == self.of(other) and made.reduced != _KEPT and bool(made.parts))

    def _make(self, node: Node) -> Made:
        if node.op == "argument":
            return Made(frozenset([node.args["name"]]))
        if node.op == "upstream":
            return self._made[self._outputs[node.args["name"]]]
        rule = rule_of(node.op)
        if not node.is_tensor or rule is None:
            return _SCALAR
        if rule.kind == "elementwise":
            return self._broadcast(node, [self._made[input] for input in node.inputs if input.is_tensor])
        if node.op in _SHAPE_OF_INPUT:
            return self._made[node.args["input"]]
        if node.op == "expand_as":
            return self._made[node.args["other"]]
        if node.op in _SHAPE_BY_SIZES:
            whole = shape_of_one(node.args[_SHAPE_BY_SIZES[node.op]])
            return self._new(node) if whole is None else self._made[whole]
        if "keepdim" in rule.signature.parameters:
            return self._reduction(node)
        return self._unsqueezed(node) if node.op == "unsqueeze" else self._new(node)

    def _new(self, node: Node) -> Made:
        """A shape of its own: that of all tensors which the same operation makes of the same shapes."""
        args = {
            key: self._made[arg] if isinstance(arg, Node) and arg.is_tensor else arg for key, arg in node.args.items()
        }
        known = tuple((key, arg if isinstance(arg, Made) else frozen(arg)) for key, arg in args.items())
        return Made(frozenset([(node.op, known)]))

    def _broadcast(self, node: Node, shapes: Iterable[Made]) -> Made:
        given = [shape for shape in shapes if shape.parts]
        parts = frozenset().union(*[shape.parts for shape in given])
        kinds = {shape.reduced for shape in given}
        if len(kinds) <= 1:
            return Made(parts, *kinds)
        if kinds != {None, _KEPT}:
            return self._new(node)
        full = frozenset().union(*[shape.parts for shape in given if shape.reduced is None])
        return Made(full) if parts == full else Made(parts, _KEPT)

    def _reduction(self, node: Node) -> Made:
        input, dim = next(input for input in node.inputs if input.is_tensor), node.args.get("dim")
        dims = dim if isinstance(dim, tuple) else (dim,)
        shape = self._made[input]
        if dim is None or dim == () or not input.shape:
            return _SCALAR
        if node.args["keepdim"] and shape.reduced in (None, _KEPT):
            return Made(shape.parts, _KEPT)
        if shape.reduced is not None or not all(type(d) is int for d in dims):
            return self._new(node)
        return Made(shape.parts, tuple(sorted(d % len(input.shape) - len(input.shape) for d in dims)))

    def _unsqueezed(self, node: Node) -> Made:
        shape, dim = self._made[node.args["input"]], node.args["dim"]
        if isinstance(shape.reduced, tuple) and type(dim) is int:
            rank = len(node.shape)
            if shape.reduced == (dim % rank - rank,):
                return Made(shape.parts, _KEPT)
        return self._new(node)


def shape_of_one(sizes: Sequence[Any]) -> Node | None:
    """The tensor whose shape these sizes are, all of them and in order; None where there is none."""
    if not sizes or not all(isinstance(size, Node) and size.op == "size" for size in sizes):
        return None
    owner: Node = sizes[0].args["input"]
    rank = len(owner.shape)
    if len(sizes) != rank or any(size.args["input"] is not owner for size in sizes):
        return None
    dims = [size.args["dim"] for size in sizes]
    if not all(type(dim) is int for dim in dims):
        return None
    return owner if [dim % rank for dim in dims] == list(range(rank)) else None
