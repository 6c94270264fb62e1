"""What each formula takes as it is, and what it computes again.

A formula may use the upstream gradient, arguments, outputs and residuals. What is cheap to compute from those
(elementwise steps, moves of elements) is computed again. The results of work (products, reductions, softmax) that the
forward does anyway are kept, and so is what follows elementwise from reductions alone, since it is small.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from gradsmith.derive.calls import rule_of
from gradsmith.derive.graph import Graph, Node
from gradsmith.derive.shapes import Shapes

FACTS = {"size": "shape", "numel": "shape", "ndim": "shape", "dtype": "dtype", "device": "device"}


@dataclass
class Holding:
    """Where a formula reads the shape (dtype, device) of a tensor: off a tensor that it has, or as a parameter."""

    tensor: Node | None  # one of the formula's tensors
    parameter: str | None  # "x_shape"


@dataclass
class Formula:
    """The gradient of one argument."""

    target: str
    root: Node
    leaves: dict[Node, str] = field(default_factory=dict)  # what it takes as it is, by the parameter's name
    holdings: dict[tuple[Node, str], Holding] = field(default_factory=dict)  # (tensor, "shape") -> where it is read
    kept: list[Node] = field(default_factory=list)  # those of the leaves that are residuals

    def parameters(self, arguments: Sequence[str]) -> list[str]:
        """In a fixed order: upstream, outputs, arguments (each with its shape), residuals."""
        found = {*self.leaves.values(), *[h.parameter for h in self.holdings.values() if h.parameter]}
        order = [name for node, name in self.leaves.items() if node.op == "upstream"]
        inputs = [word for name in arguments for word in (name, *[f"{name}_{kind}" for kind in FACTS.values()])]
        residuals = [name for node, name in self.leaves.items() if node in self.kept]
        outputs = [name for name in self.leaves.values() if name not in {*order, *inputs, *residuals}]
        wanted = dict.fromkeys([*sorted(order), *sorted(outputs), *inputs, *residuals])
        return [name for name in wanted if name in found]


class Planner:
    """Plans the formulas of one op, with the same names for residuals in all of them."""

    def __init__(self, graph: Graph, outputs: dict[str, Node], shapes: Shapes, gradients: Sequence[Node]) -> None:
        self.outputs = {node: name for name, node in outputs.items()}
        self.arguments = [node for node in graph.nodes if node.op == "argument"]
        self.shapes = shapes
        self.residuals: dict[Node, str] = {}
        self._small = _reduced(graph.nodes)
        self._instead: set[Node] = set()
        self._choose(gradients)

    def _choose(self, gradients: Sequence[Node]) -> None:
        """Keep tanh(a @ b) instead of a @ b where no formula needs the product for anything else."""
        leaves, _, computed = self._gather(gradients, again=set())
        for node in sorted(computed, key=lambda node: -node.index):
            rule = rule_of(node.op)
            if not node.authored or not node.is_tensor or rule is None or rule.kind != "elementwise":
                continue
            self._instead.add(node)
            others, _, _ = self._gather(gradients, again=set())
            spared = [leaf for leaf in leaves - others if self._is_residual(leaf)]
            if spared and any(leaf.shape == node.shape for leaf in spared) and others - {node} <= leaves:
                leaves = others
            else:
                self._instead.discard(node)

    def _is_residual(self, leaf: Node) -> bool:
        return leaf.op not in ("argument", "upstream") and leaf not in self.outputs

    def formula(self, target: str, root: Node) -> Formula:
        formula = Formula(target, root)
        leaves, facts, computed = self._gather([root], again=set())
        again: set[Node] = set()
        for leaf in sorted(leaves, key=lambda node: -node.index):
            steps = self._follows(leaf, leaves)
            if steps is not None:
                again |= steps
                leaves, facts, computed = self._gather([root], again)
        for leaf in sorted(leaves, key=lambda node: node.index):
            self._take(formula, leaf)
        for fact in sorted(facts, key=lambda node: node.index):
            self._place(formula, fact, leaves, computed)
        return formula

    # ---- what is kept ------------------------------------------------------------------------------------------

    def _gather(self, roots: Sequence[Node], again: set[Node]) -> tuple[set[Node], set[Node], set[Node]]:
        """Below `roots`: the leaves, the facts about tensors that are read, and what is computed."""
        leaves: set[Node] = set()
        facts: set[Node] = set()
        computed: set[Node] = set()
        waiting = list(roots)
        while waiting:
            node = waiting.pop()
            if node in leaves or node in facts or node in computed:
                continue
            if node.op in FACTS:
                facts.add(node)
                waiting.extend(input for input in node.inputs if input is not node.args["input"])
            elif node not in again and self._is_leaf(node):
                leaves.add(node)
            else:
                computed.add(node)
                waiting.extend(node.inputs)
        return leaves, facts, computed

    def _follows(self, leaf: Node, leaves: set[Node]) -> set[Node] | None:
        """What is computed on the way from the other leaves to a cheap one; None where they do not suffice."""
        steps: set[Node] = set()
        waiting = [leaf]
        while waiting:
            node = waiting.pop()
            if node in steps or node.op in FACTS or (node is not leaf and node in leaves):
                continue
            if node.op in ("argument", "upstream") or (node.is_tensor and not self._is_cheap(node)):
                return None
            steps.add(node)
            waiting.extend(node.inputs)
        return steps

    def _is_leaf(self, node: Node) -> bool:
        if node.op in ("argument", "upstream") or node in self.outputs or node in self._instead:
            return True
        return node.authored and self._is_worth(node)

    def _is_worth(self, node: Node) -> bool:
        """Whether a value of the forward is kept rather than computed again."""
        if node.op == "output":
            return self._is_worth(node.args["input"])
        rule = rule_of(node.op)
        if rule is None or not isinstance(node.value, (Tensor, tuple, list)):
            return False
        return rule.random or rule.kind == "work" or (rule.kind == "elementwise" and node in self._small)

    def _is_cheap(self, leaf: Node) -> bool:
        rule = rule_of(leaf.op)
        return rule is not None and not rule.random and rule.kind != "work" and leaf.op != "output"

    def _take(self, formula: Formula, leaf: Node) -> None:
        if leaf.op in ("argument", "upstream"):
            formula.leaves[leaf] = leaf.args["name"] if leaf.op == "argument" else leaf.name or ""
        elif leaf in self.outputs:
            formula.leaves[leaf] = self.outputs[leaf]
        else:
            self._keep(formula, leaf)

    def _keep(self, formula: Formula, node: Node) -> None:
        formula.leaves[node] = self.residuals.setdefault(node, "")  # named by the writer
        formula.kept.append(node)

    # ---- shapes, dtypes, devices -------------------------------------------------------------------------------

    def _place(self, formula: Formula, fact: Node, leaves: set[Node], computed: set[Node]) -> None:
        owner, kind = fact.args["input"], FACTS[fact.op]
        if (owner, kind) in formula.holdings:
            return
        if kind == "dtype":
            alike = [node for node in (owner, *self.arguments) if _has_dtype(node, owner)]
        elif kind == "device":
            alike = [node for node in (owner, *self.arguments) if node.is_tensor]
        else:
            before = {node for node in computed if node.index < fact.index}  # it cannot be computed from the fact
            alike = [node for node in (owner, *leaves, *before) if node.is_tensor and self.shapes.same(node, owner)]
            alike.sort(key=lambda node: (node is not owner, node.op != "upstream", node.index))
        held = next((node for node in alike if node in leaves or node in computed), None)
        argument = next((node for node in [*alike, *self.arguments] if self._tells(node, owner, kind)), None)
        if held is not None and (held is owner or held in leaves or argument is None):
            formula.holdings[owner, kind] = Holding(held, None)
        elif argument is not None:
            formula.holdings[owner, kind] = Holding(None, f"{argument.args['name']}_{kind}")
        else:
            self._keep(formula, fact)

    def _tells(self, node: Node, owner: Node, kind: str) -> bool:
        """Whether an argument has the same shape (dtype, device) as `owner`."""
        if node.op != "argument" or not node.is_tensor:
            return False
        if kind == "shape":
            return self.shapes.same(node, owner)
        return kind == "device" or _has_dtype(node, owner)


def _has_dtype(node: Node, owner: Node) -> bool:
    return node.is_tensor and bool(node.value.dtype == owner.value.dtype)


def _reduced(nodes: Sequence[Node]) -> set[Node]:
    """The tensors that were computed, element by element, from reductions alone: they are small."""
    found: set[Node] = set()
    for node in nodes:
        rule = rule_of(node.op)
        if rule is None or not node.is_tensor:
            continue
        tensors = [input for input in node.inputs if input.is_tensor]
        follows = rule.kind != "work" and node.op != "expand" and bool(tensors) and found.issuperset(tensors)
        if "keepdim" in rule.signature.parameters or follows:
            found.add(node)
    return found
