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
    where: str = ""  # file:line

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

    def note(self, text: str, *about: Any) -> None:
        """Something that holds for the example, and that the author should know."""
        if self.authored and (text, about) not in self.notes:
            self.notes.append((text, about))


def _key(op: str, args: dict[str, Any]) -> Any:
    frozen = [(name, _frozen(value)) for name, value in args.items()]
    if op in _COMMUTATIVE and len(frozen) >= 2:
        first, second = sorted((frozen[0][1], frozen[1][1]), key=repr)
        frozen[:2] = [("", first), ("", second)]
    return op, tuple(frozen)


def _frozen(value: Any) -> Any:
    if isinstance(value, Node):
        return ("node", value.index)
    if isinstance(value, (tuple, list)):
        return ("tuple", *[_frozen(entry) for entry in value])
    if isinstance(value, slice):
        return ("slice", _frozen(value.start), _frozen(value.stop), _frozen(value.step))
    return type(value).__name__, repr(value)
