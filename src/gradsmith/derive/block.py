"""Statements for a few roots: what is used twice gets a name, so does what would make a line too long."""

from __future__ import annotations

import builtins
import keyword
from collections.abc import Iterable, Mapping, Sequence

from gradsmith.derive.expression import ATOM, Scope, Text, expression
from gradsmith.derive.graph import Node
from gradsmith.derive.plan import FACTS, Holding

WIDTH = 100
_INLINE = {"size", "numel", "ndim", "dtype", "device", "output"}
_VIEWS = {"mT", "T", "unsqueeze"}
_NAMES = {  # what a value is called that the author has no name for
    "add": "total",
    "sub": "difference",
    "mul": "product",
    "div": "ratio",
    "pow": "power",
    "neg": "negative",
    "matmul": "product",
    "linear": "product",
    "sum": "total",
    "amax": "maximum",
    "amin": "minimum",
    "where": "chosen",
    "linalg_vector_norm": "norm",
    "getitem": "part",
    "output": "part",
    "floor_divide": "quotient",
    "to": "converted",
    "einsum": "product",
    "rsqrt": "inverse_root",
    "sqrt": "root",
    "abs": "size",
    "size": "size",
    "numel": "count",
    "new_zeros": "zeros",
    **dict.fromkeys(("eq", "ne", "lt", "le", "gt", "ge", "bitwise_and", "bitwise_or"), "mask"),
    **dict.fromkeys(("reshape", "view", "transpose", "permute", "flatten", "unsqueeze", "squeeze", "mT"), "view"),
}
RESERVED = {"torch", "F", "gs", "math"}  # the modules that the source imports


class Block:
    """The statements that compute some roots from leaves that have names already."""

    def __init__(
        self,
        leaves: Mapping[Node, str],
        holdings: Mapping[tuple[Node, str], Holding],
        taken: Iterable[str],
        *,
        keep_names: bool = False,
        named: Mapping[Node, str] | None = None,
    ) -> None:
        self.lines: list[str] = []
        self._names = dict(leaves)
        self._holdings = holdings
        self._taken = {*taken, *leaves.values(), *RESERVED, "needs", "_"}
        self._keep_names = keep_names
        self._wanted_names = dict(named or {})
        self._taken.update(self._wanted_names.values())
        self._scope = Scope(self._write, self._attribute, self._names.__contains__)
        self._uses: dict[Node, int] = {}

    def write(self, roots: Sequence[Node], indent: str, prefix: str) -> list[str]:
        """Add the statements; return the source of each root, the first short enough to follow `prefix`."""
        self._count(roots)
        for node in self._in_order(roots):
            if node not in self._names and self._deserves_name(node, roots):
                self._assign(node, indent)
            elif node.is_tensor:
                self._fit(node, indent, indent)
        return [self._fit(root, indent, f"{indent}{prefix}") for root in roots]

    # ---- which values have names -------------------------------------------------------------------------------

    def _count(self, roots: Sequence[Node]) -> None:
        """How often each value is used, below what has a name already."""
        waiting = list(roots)
        while waiting:
            node = waiting.pop()
            self._uses[node] = self._uses.get(node, 0) + 1
            if self._uses[node] == 1 and node not in self._names:
                waiting.extend(self._below(node))
        for held in self._holdings.values():
            if held.tensor is not None and held.tensor not in self._names:
                self._uses[held.tensor] = self._uses.get(held.tensor, 0) + 2

    def _below(self, node: Node) -> list[Node]:
        """What has to be written before a node: its inputs, and of a fact the tensor that it is read off."""
        if node.op not in FACTS:
            return node.inputs
        owner = node.args["input"]
        held = self._holdings.get((owner, FACTS[node.op]), Holding(owner, None) if not self._holdings else None)
        tensor = held.tensor if held is not None else None
        return [*([] if tensor is None else [tensor]), *[input for input in node.inputs if input is not owner]]

    def _in_order(self, roots: Sequence[Node]) -> list[Node]:
        """What the roots are computed from, inputs first."""
        order: dict[Node, None] = {}
        waiting = [(root, False) for root in reversed(roots)]
        while waiting:
            node, is_ready = waiting.pop()
            if is_ready:
                order[node] = None
            elif node not in order and node not in self._names:
                waiting.append((node, True))
                waiting.extend((input, False) for input in reversed(self._below(node)))
        return list(order)

    def _deserves_name(self, node: Node, roots: Sequence[Node]) -> bool:
        if node in self._wanted_names:
            return True
        if self._keep_names and node.name is not None and node.authored:
            return node not in roots or self._uses[node] > 1
        shared = self._uses[node] > 1 and node.op not in _INLINE
        return shared and not (node.op in _VIEWS and node.args["input"] in self._names)

    def _assign(self, node: Node, indent: str) -> None:
        """`name = …`, with the name in force for everything after."""
        if isinstance(node.value, (tuple, list)):
            self._unpack(node, indent)
            return
        name = self._wanted_names.get(node) or self._new_name(node)
        source = self._fit(node, indent, f"{indent}{name} = ")
        self._names[node] = name
        self.lines.append(f"{indent}{name} = {source}")

    def _unpack(self, node: Node, indent: str) -> None:
        """`first, second = …` for an operation with several outputs; `_` for those that are not used."""
        items = {use.args["index"]: use for use in self._uses if use.op == "output" and use.args["input"] is node}
        names = {index: self._wanted_names.get(item) or self._new_name(item) for index, item in sorted(items.items())}
        targets = ", ".join(names.get(index, "_") for index in range(len(node.value)))
        source = self._fit(node, indent, f"{indent}{targets} = ")
        self._names.update({item: names[index] for index, item in items.items()})
        self.lines.append(f"{indent}{targets} = {source}")

    def _new_name(self, node: Node) -> str:
        base = node.name or _NAMES.get(node.op, node.op.removeprefix("math."))
        if keyword.iskeyword(base) or hasattr(builtins, base):
            base += "_"
        name, count = base, 2
        while name in self._taken:
            name, count = f"{base}{count}" if base[-1].isalpha() else f"{base}_{count}", count + 1
        self._taken.add(name)
        return name

    # ---- source ------------------------------------------------------------------------------------------------

    def _fit(self, node: Node, indent: str, before: str) -> str:
        """The source of a node after `before`, its larger parts assigned first where the line would be too long."""
        while True:
            source = self._write(node).source
            part = self._largest_part(node) if len(before) + len(source) > WIDTH else None
            if part is None:
                return source
            self._assign(part, indent)

    def _largest_part(self, node: Node) -> Node | None:
        """The largest expression inside that could have a name, but not nearly all of it."""
        inside = [part for part in self._in_order([node]) if part is not node]
        parts = [part for part in inside if part.is_tensor and part.op not in _INLINE]
        whole = len(self._write(node).source)
        sizes = {part: len(self._write(part).source) for part in parts}
        fitting = [part for part in parts if 8 < sizes[part] <= 0.7 * whole] or [p for p in parts if sizes[p] > 8]
        return max(fitting, key=lambda part: sizes[part]) if fitting else None

    def _write(self, node: Node) -> Text:
        name = self._names.get(node)
        return expression(node, self._scope) if name is None else Text(name)

    def _attribute(self, tensor: Node, kind: str) -> str:
        held = self._holdings.get((tensor, kind))
        if held is None:
            return f"{self._write(tensor).within(ATOM)}.{kind}"
        if held.parameter is not None:
            return held.parameter
        assert held.tensor is not None
        return f"{self._write(held.tensor).within(ATOM)}.{kind}"
