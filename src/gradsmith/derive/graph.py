"""The graph of a traced function: one node for each different value, whoever computes it and however often."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass(eq=False)
class Node:
    """One value: `op` applied to `args`.

    `op` is the name of a torch operation ("softmax"), of a fact about a tensor ("size", "dtype"), or of a leaf
    ("argument", "upstream"). `args` has the operation's parameter names as keys; nodes may stand inside tuples and
    slices.
    """

    op: str
    args: dict[str, Any]
    value: Any  # on the example: a tensor, a tuple of them, or a number without its history
    index: int  # in the order of computation: greater than that of every input
    authored: bool  # computed by the forward, not only by a derivative
    stopped: bool = False  # computed under no_grad
    name: str | None = None  # what the author called it
    where: str = ""  # " (file:line)"

    @property
    def is_tensor(self) -> bool:
        return isinstance(self.value, Tensor)

    @property
    def shape(self) -> tuple[int, ...]:
        """On the example."""
        return tuple(self.value.shape)

    @property
    def inputs(self) -> list[Node]:
        return list(nodes_in(self.args))


def nodes_in(value: Any) -> Iterator[Node]:
    """The nodes anywhere inside an argument."""
    if isinstance(value, Node):
        yield value
    elif isinstance(value, Mapping):
        for entry in value.values():
            yield from nodes_in(entry)
    elif isinstance(value, (tuple, list)):
        for entry in value:
            yield from nodes_in(entry)
    elif isinstance(value, slice):
        yield from nodes_in((value.start, value.stop, value.step))


_COMMUTATIVE = ("add", "mul", "maximum", "minimum", "eq", "ne")


@dataclass
class Graph:
    """All nodes, found again by what they compute and by their tensor."""

    nodes: list[Node] = field(default_factory=list)
    notes: list[tuple[str, tuple[Any, ...]]] = field(default_factory=list)  # a text with {}, and what goes there
    fixed: set[str] = field(default_factory=set)  # arguments that are numbers, whose value something was decided by
    authored: bool = True  # what is added now belongs to the forward
    _known: dict[Any, Node] = field(default_factory=dict)
    _of_tensor: dict[int, Node] = field(default_factory=dict)

    def find(self, op: str, args: dict[str, Any]) -> Node | None:
        """The node that computes this already."""
        return self._known.get(_key(op, args))

    def add(self, op: str, args: dict[str, Any], value: Any, *, unique: bool = False) -> Node:
        """A new node; `unique` where computing the same again would give another value."""
        node = Node(op, args, value, len(self.nodes), self.authored)
        self.nodes.append(node)
        if not unique:
            self._known[_key(op, args)] = node
        if isinstance(value, Tensor):
            self._of_tensor[id(value)] = node
        return node

    def of(self, tensor: Tensor) -> Node | None:
        """The node of a tensor that was made while tracing. Nodes keep their tensors, so an id is never reused."""
        return self._of_tensor.get(id(tensor))

    def decide(self, text: str, *about: Any) -> None:
        """What holds for the example was used to go one way and not another: `text` says what, `about` goes into it."""
        arguments = {name for value in about if isinstance(value, Node) for name in _numbers_below(value)}
        self.fixed |= arguments
        if not arguments and self.authored and (text, about) not in self.notes:
            self.notes.append((text, about))


def _numbers_below(node: Node) -> Iterator[str]:
    """The arguments that a number was computed from."""
    if node.op == "argument" and not node.is_tensor:
        yield node.args["name"]
    elif not node.is_tensor:
        for input in node.inputs:
            yield from _numbers_below(input)


def _key(op: str, args: dict[str, Any]) -> Any:
    entries = [(name, frozen(value)) for name, value in args.items()]
    if op in _COMMUTATIVE and len(entries) >= 2:
        first, second = sorted((entries[0][1], entries[1][1]), key=repr)
        entries[:2] = [("", first), ("", second)]
    return op, tuple(entries)


def frozen(value: Any) -> Any:
    """An argument as something to compare and hash: 1, 1.0 and True are not the same."""
    if isinstance(value, Node):
        return ("node", value.index)
    if isinstance(value, (tuple, list)):
        return ("tuple", *[frozen(entry) for entry in value])
    if isinstance(value, slice):
        return ("slice", frozen(value.start), frozen(value.stop), frozen(value.step))
    return type(value).__name__, repr(value)
