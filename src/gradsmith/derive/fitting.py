"""Gradients brought to the shape of their arguments in every call, not only in the example.

Where two arguments of one shape meet, one of them may be broadcast in another call, or have leading dimensions that
the other has not. The gradient is then summed to the argument's shape. That is left out where nothing can be
broadcast, and where the gradient has the shape of an output: an op sums those by itself.
"""

from __future__ import annotations

from collections.abc import Iterable

from gradsmith.derive.calls import rule_of
from gradsmith.derive.graph import Node
from gradsmith.derive.shapes import Shapes
from gradsmith.derive.trace import Tracer


def fitted(tracer: Tracer, shapes: Shapes, outputs: Iterable[Node], argument: Node, gradient: Node) -> Node:
    """The gradient of an argument, summed to its shape where it could be larger."""
    if any(shapes.same(gradient, other) for other in (argument, *outputs)):
        return gradient
    if not _may_be_broadcast(tracer.graph.nodes, shapes, argument):
        return gradient
    with tracer:
        return tracer.node(gradient.value.sum_to_size(argument.value.shape))


def _may_be_broadcast(nodes: Iterable[Node], shapes: Shapes, argument: Node) -> bool:
    """Whether the argument, or something computed from it, meets a tensor by which it could be broadcast."""
    reached = {argument}
    for node in nodes:
        if not node.authored:
            break
        used = [input for input in node.inputs if input in reached]
        if used and node.is_tensor:
            reached.add(node)
            if any(_is_broadcast_in(node, input, shapes) for input in used):
                return True
        elif used and isinstance(node.value, tuple):
            reached.add(node)
    return False


def _is_broadcast_in(node: Node, input: Node, shapes: Shapes) -> bool:
    rule = rule_of(node.op)
    if rule is not None and rule.kind == "elementwise":
        reduced = shapes.of(input).reduced
        return shapes.of(node) != shapes.of(input) and (reduced is None or shapes.of(node).reduced is not None)
    if node.op == "matmul":
        left, right = node.args["input"], node.args["other"]
        if input is left:
            return len(right.shape) > 2
        return len(right.shape) > 2 or len(left.shape) == 2
    return node.op == "linear" and input is node.args["weight"] and len(node.args["input"].shape) == 2
