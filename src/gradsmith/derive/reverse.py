"""Reverse mode: the rules applied from the outputs back to the arguments, under the tracer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from gradsmith.derive.calls import rule_of
from gradsmith.derive.errors import DeriveError, Unsupported
from gradsmith.derive.graph import Node
from gradsmith.derive.scalars import tracked
from gradsmith.derive.trace import Tracer


def gradients(
    tracer: Tracer, outputs: Sequence[Node], upstream: Sequence[Tensor | None], wanted: Sequence[Node]
) -> dict[Node, Node | None]:
    """The gradient of each `wanted` argument as a node; None where it is zero.

    Raises DeriveError for an operation on the way that has no rule.
    """
    tracer.differentiating()
    ways = _depending(tracer.graph.nodes, wanted)
    arrived: dict[Node, Any] = {}
    for output, grad in zip(outputs, upstream, strict=True):
        if grad is not None and output in ways:
            _arrive(tracer, arrived, output, grad)
    forward = [node for node in tracer.graph.nodes if node in ways]
    for node in reversed(forward):
        grad = arrived.get(node)
        if grad is not None and node not in wanted:
            _name(tracer, node, grad)
            _back(tracer, node, grad, ways, arrived)
    return {node: None if arrived.get(node) is None else tracer.node(arrived[node]) for node in wanted}


def _depending(nodes: Sequence[Node], wanted: Sequence[Node]) -> set[Node]:
    """The nodes that a derivative by one of `wanted` goes through."""
    found = set(wanted)
    for node in nodes:
        rule = rule_of(node.op)
        if node.stopped or rule is None or node in found:
            continue
        zero = rule.differentiable and not rule.formulas and node.op != "output"
        if not zero and any(input in found for input in node.inputs) and _is_floating(node.value):
            found.add(node)
    return found


def _is_floating(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return any(_is_floating(entry) for entry in value)
    return isinstance(value, Tensor) and value.is_floating_point()


def _back(tracer: Tracer, node: Node, grad: Any, ways: set[Node], arrived: dict[Node, Any]) -> None:
    """From the gradient of a node to those of its inputs."""
    if node.op == "output":
        parent, index = node.args["input"], node.args["index"]
        grads = arrived.setdefault(parent, [None] * len(parent.value))
        grads[index] = grad
        return
    rule = rule_of(node.op)
    assert rule is not None
    values = {key: _with_history(tracer, value) for key, value in node.args.items()}
    for parameter, argument in node.args.items():
        targets = argument if isinstance(argument, tuple) else (argument,)
        if not any(isinstance(target, Node) and target in ways for target in targets):
            continue
        if parameter not in rule.formulas:
            raise DeriveError(f"derive: there is no rule for `{parameter}` of torch's `{node.op}`{node.where}")
        formula = rule.formulas[parameter]
        if formula is None:
            continue
        given = [grad if w == "grad" else node.value if w == "out" else values[w] for w in rule.wants[parameter]]
        try:
            with tracer:
                result = formula(*given)
        except Unsupported as error:
            raise DeriveError(f"derive: torch's `{node.op}` has no rule {error}{node.where}") from None
        results = result if isinstance(argument, tuple) else (result,)
        for target, one in zip(targets, results, strict=True):
            if isinstance(target, Node) and target in ways:
                _arrive(tracer, arrived, target, one)


def _arrive(tracer: Tracer, arrived: dict[Node, Any], node: Node, grad: Tensor) -> None:
    if node in arrived:
        with tracer:
            grad = arrived[node] + grad
    arrived[node] = grad


def _name(tracer: Tracer, node: Node, grad: Any) -> None:
    """Call the gradient of what the author called h `grad_h`."""
    if isinstance(grad, Tensor) and node.name is not None:
        own = tracer.node(grad)
        if own.name is None and not own.authored:
            own.name = f"grad_{node.name}"


def _with_history(tracer: Tracer, value: Any) -> Any:
    """An argument as the rules compute with it: the node's tensor, or a number that remembers where it comes from."""
    if isinstance(value, Node):
        return value.value if value.is_tensor else tracked(tracer.graph, value)
    if isinstance(value, tuple):
        return tuple(_with_history(tracer, entry) for entry in value)
    if isinstance(value, slice):
        return slice(*[_with_history(tracer, entry) for entry in (value.start, value.stop, value.step)])
    return value
