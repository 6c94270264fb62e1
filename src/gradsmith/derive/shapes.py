"""Which tensors have the same shape by construction, so that the shape of one can be read off another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from gradsmith.derive.calls import rule_of
from gradsmith.derive.graph import Node

_SHAPE_OF_INPUT = ("softmax", "log_softmax", "cumsum", "layer_norm", "flip", "roll", "tril", "triu")


class Shapes:
    """Classes of nodes with one shape. Where operands of one shape meet, they are taken to have it always."""

    def __init__(self, nodes: Iterable[Node], outputs: dict[str, Node]) -> None:
        self._parent: dict[Node, Node] = {}
        for node in nodes:
            for other in _alike(node, outputs):
                self._join(node, other)

    def same(self, one: Node, other: Node) -> bool:
        return self._root(one) is self._root(other)

    def _join(self, one: Node, other: Node) -> None:
        self._parent[self._root(one)] = self._root(other)

    def _root(self, node: Node) -> Node:
        while node in self._parent and self._parent[node] is not node:
            node = self._parent[node]
        return node


def _alike(node: Node, outputs: dict[str, Node]) -> list[Node]:
    """Inputs of a node that have its shape."""
    if node.op == "upstream":
        return [outputs[node.args["name"]]]
    rule = rule_of(node.op)
    if not node.is_tensor or rule is None:
        return []
    if rule.kind == "elementwise":
        return [input for input in node.inputs if input.is_tensor and input.shape == node.shape]
    if node.op in _SHAPE_OF_INPUT:
        return [node.args["input"]]
    sizes = node.args.get("shape") if node.op in ("reshape", "view") else node.args.get("size")
    whole = shape_of_one(sizes) if isinstance(sizes, tuple) else None
    return [] if whole is None else [whole]


def shape_of_one(sizes: Sequence[Any]) -> Node | None:
    """The tensor whose shape these sizes are, all of them and in order; None where there is none."""
    if not sizes or not all(isinstance(size, Node) and size.op == "size" for size in sizes):
        return None
    owner: Node = sizes[0].args["input"]
    rank = len(owner.shape)
    if len(sizes) != rank or any(size.args["input"] is not owner for size in sizes):
        return None
    dims = [size.args["dim"] for size in sizes]
    return owner if all(type(dim) is int for dim in dims) and [d % rank for d in dims] == list(range(rank)) else None
