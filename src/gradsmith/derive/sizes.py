"""Sizes: the shape of a traced tensor, and where a size comes from when operations have moved it."""

from __future__ import annotations

import math
from typing import Any

from gradsmith.derive.calls import rule_of
from gradsmith.derive.graph import Graph, Node
from gradsmith.derive.scalars import computed, node_of, plain, tracked


class Shape(tuple[Any, ...]):
    """The shape of a tensor, whose entries remember where they come from, by the index that the author wrote.

    As `torch.Size` is used, which cannot be derived from.
    """

    _owner: Node
    _graph: Graph

    @classmethod
    def of(cls, graph: Graph, owner: Node) -> Shape:
        sizes = enumerate(owner.value.shape)
        shape = cls(_size_along(graph, owner, dim, size) for dim, size in sizes)
        shape._owner, shape._graph = owner, graph
        return shape

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return super().__getitem__(index)
        return _size_along(self._graph, self._owner, index, plain(super().__getitem__(plain(index))))

    def numel(self) -> Any:
        return computed(self._graph, "numel", {"input": self._owner}, math.prod(map(plain, self)))


def _size_along(graph: Graph, owner: Node, index: Any, size: int) -> Any:
    """A size; in a rule, of the tensor that it comes from, since that one may be there when `owner` is not."""
    dim = node_of(index)
    if not graph.authored and isinstance(dim, int):
        where = origin(owner, dim)
        if not isinstance(where, tuple):
            return tracked(graph, where) if isinstance(where, Node) else where
        owner, dim = where[0], where[1] - len(where[0].shape) if dim < 0 else where[1]
    return computed(graph, "size", {"input": owner, "dim": dim}, size)


def origin(node: Node, dim: int) -> tuple[Node, int] | Any:
    """What the size of `node` along `dim` is, as far back as it can be told: (tensor, dim), a number or its node."""
    while True:
        dim %= len(node.shape)
        step = _back(node, dim)
        if not isinstance(step, tuple):
            return (node, dim) if step is None else step
        node, dim = step


def _back(node: Node, dim: int) -> tuple[Node, int] | Any:
    """One operation back, or None where the size is known of the node alone."""
    rank, args = len(node.shape), node.args
    if node.op in ("softmax", "log_softmax", "cumsum", "contiguous", "clone"):
        return args["input"], dim
    if node.op in ("transpose", "mT") and all(type(args.get(key, 0)) is int for key in ("dim0", "dim1")):
        one, two = (args.get("dim0", -2) % rank, args.get("dim1", -1) % rank)
        return args["input"], {one: two, two: one}.get(dim, dim)
    if node.op == "permute" and all(type(d) is int for d in args["dims"]):
        return args["input"], args["dims"][dim] % rank
    if node.op in ("view", "reshape"):
        return None if args["shape"][dim] == -1 else args["shape"][dim]
    if node.op == "linear":
        return (args["weight"], 0) if dim == rank - 1 else (args["input"], dim)
    if node.op == "matmul":
        return _of_product(node, dim)
    rule = rule_of(node.op)
    tensors = [input for input in node.inputs if input.is_tensor]
    return (tensors[0], dim) if rule is not None and rule.kind == "elementwise" and len(tensors) == 1 else None


def _of_product(node: Node, dim: int) -> tuple[Node, int] | None:
    left, right = node.args["input"], node.args["other"]
    if min(len(left.shape), len(right.shape)) < 2:
        return None
    from_end = dim - len(node.shape)
    if from_end == -1:
        return right, len(right.shape) - 1
    if from_end == -2 or len(right.shape) == 2:
        return left, len(left.shape) + from_end
    if len(left.shape) == len(right.shape):
        one, two = origin(left, dim), origin(right, dim)
        same = (
            one[0] is two[0] and one[1] == two[1] if isinstance(one, tuple) and isinstance(two, tuple) else one is two
        )
        return (left, dim) if same else None
    return None
