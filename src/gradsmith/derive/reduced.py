"""Along which dimensions a tensor has size 1 because it was reduced there, and whether an argument says which.

On the example a dimension that an argument names may be the last one; in another call it is not. So a rule that sums
over it has to name it by the argument, too.
"""

from __future__ import annotations

from typing import Any

from gradsmith.derive.calls import rule_of
from gradsmith.derive.graph import Node, nodes_in


def reduced_dim(node: Node) -> Any:
    """The `dim` of the reductions that a tensor was computed from element by element, if they have it in common."""
    found: list[Any] = []
    waiting = [node]
    while waiting:
        node = waiting.pop()
        rule = rule_of(node.op)
        if rule is not None and rule.kind == "elementwise":
            waiting.extend(input for input in node.inputs if input.is_tensor and input.shape)
        elif node.op == "unsqueeze" or node.args.get("keepdim") is True:
            found.append(node.args["dim"])
        else:
            return None
    return found[0] if found and all(_same(dim, found[0]) for dim in found) else None


def numbers_that_shape(node: Node) -> list[Node]:
    """The numbers, from arguments, by which dimensions were chosen on the way to a tensor."""
    found: dict[Node, None] = {}
    seen: set[Node] = set()
    waiting = [node]
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        rule = rule_of(node.op)
        for key, argument in node.args.items():
            for input in nodes_in(argument):
                if input.is_tensor:
                    waiting.append(input)
                elif key.startswith("dim") and rule is not None:
                    found[input] = None
    return list(found)


def _same(one: Any, two: Any) -> bool:
    return one is two or (type(one) is type(two) is int and one == two)
