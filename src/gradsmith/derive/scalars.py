"""Numbers that remember where they come from: sizes, and the arguments that are numbers.

A size read while tracing is an ordinary int for whoever computes with it, but its history is in the graph, so that
the printed source says `x.shape[-1]` where the example had 8. Where the history is lost (a comparison, a loop), the
graph is told what was decided.
"""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from gradsmith.derive.graph import Graph, Node


class Int(int):
    """An int with a history."""

    node: Node
    graph: Graph


class Float(float):
    """A float with a history."""

    node: Node
    graph: Graph


TRACKED = (Int, Float)
_TORCH = str(Path(torch.__file__).parent)


def tracked(graph: Graph, node: Node) -> Any:
    """The value of a node as a number that remembers it."""
    if type(node.value) not in (int, float):
        return node.value
    number = Int(node.value) if isinstance(node.value, int) else Float(node.value)
    number.node, number.graph = node, graph
    return number


def computed(graph: Graph, op: str, args: dict[str, Any], value: Any) -> Any:
    """A tracked number: `op` of `args`, which is `value` on the example."""
    node = graph.find(op, args) or graph.add(op, args, value)
    return tracked(graph, node)


def plain(number: Any) -> Any:
    """A number without its history."""
    return number.node.value if isinstance(number, TRACKED) else number


def without_history(value: Any) -> Any:
    """Arguments as torch takes them: numbers without history."""
    if isinstance(value, TRACKED):
        return plain(value)
    if isinstance(value, dict):
        return {key: without_history(entry) for key, entry in value.items()}
    if isinstance(value, (tuple, list)):
        return tuple(without_history(entry) for entry in value)
    if isinstance(value, slice):
        return slice(without_history(value.start), without_history(value.stop), without_history(value.step))
    return value


def node_of(number: Any) -> Any:
    """The history of a number; a plain number is its own."""
    return number.node if isinstance(number, TRACKED) else number


_BINARY = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "truediv": operator.truediv,
    "floordiv": operator.floordiv,
    "mod": operator.mod,
    "pow": operator.pow,
}
_OP = {"truediv": "div", "floordiv": "floor_divide", "mod": "remainder"}  # as torch calls them
_COMPARISONS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_CONVERSIONS = ("__index__", "__int__", "__float__", "__trunc__", "__round__")


def _binary(name: str, function: Callable[[Any, Any], Any], swapped: bool) -> Callable[[Any, Any], Any]:
    def method(self: Any, other: Any) -> Any:
        if not isinstance(other, (int, float)):
            return NotImplemented
        left, right = (other, self) if swapped else (self, other)
        args = {"input": node_of(left), "other": node_of(right)}
        return computed(self.graph, _OP.get(name, name), args, function(plain(left), plain(right)))

    return method


def _asked_by_torch() -> bool:
    """Whether torch compares, for its own purposes: to unpack a tensor, say."""
    frame = inspect.currentframe()
    caller = frame.f_back.f_back if frame is not None and frame.f_back is not None else None
    return caller is not None and caller.f_code.co_filename.startswith(_TORCH)


def _comparison(name: str, symbol: str) -> Callable[[Any, Any], Any]:
    function = getattr(operator, name)

    def method(self: Any, other: Any) -> Any:
        if not isinstance(other, (int, float)):
            return NotImplemented
        result = function(plain(self), plain(other))
        if not _asked_by_torch():
            self.graph.decide(f"{{}} {symbol} {{}} is {result}", self.node, node_of(other))
        return result

    return method


def _conversion(name: str) -> Callable[..., Any]:
    def method(self: Any, *options: Any) -> Any:
        self.graph.decide(f"{{}} is {plain(self)}", self.node)
        return getattr(plain(self), name)(*options)

    return method


def _truth(self: Any) -> bool:
    self.graph.decide(f"{{}} is {plain(self)}", self.node)
    return bool(plain(self))


def _equip(cls: type) -> None:
    for name, function in _BINARY.items():
        setattr(cls, f"__{name}__", _binary(name, function, swapped=False))
        setattr(cls, f"__r{name}__", _binary(name, function, swapped=True))
    for name, symbol in _COMPARISONS.items():
        setattr(cls, f"__{name}__", _comparison(name, symbol))
    for name in _CONVERSIONS:
        if hasattr(cls, name):
            setattr(cls, name, _conversion(name))
    setattr(cls, "__neg__", lambda self: computed(self.graph, "neg", {"input": self.node}, -plain(self)))  # noqa: B010
    setattr(cls, "__bool__", _truth)  # noqa: B010
    setattr(cls, "__hash__", lambda self: hash(plain(self)))  # noqa: B010


_equip(Int)
_equip(Float)

_MATH = ("sqrt", "exp", "log", "log2", "ceil", "floor")


def _math(name: str, function: Callable[[Any], Any]) -> Callable[..., Any]:
    def wrapped(number: Any, *more: Any) -> Any:
        if not isinstance(number, TRACKED) or more:
            return function(number, *more)
        return computed(number.graph, f"math.{name}", {"input": number.node}, function(plain(number)))

    return wrapped


def _range(*bounds: Any) -> range:
    """`range`, which would not tell that it unrolls a loop so many times."""
    return range(*[int(bound) for bound in bounds])


@contextmanager
def history_kept(names: dict[str, Any]) -> Iterator[None]:
    """`math.sqrt` and its like keep the history of numbers, and `range` says that it uses them.

    In `math`, and in `names`, those of the forward's module. For every other number they are as always.
    """
    wrapped = {getattr(math, name): _math(name, getattr(math, name)) for name in _MATH}
    places: list[dict[str, Any]] = [vars(math), names]
    replaced = [(place, key, value) for place in places for key, value in place.items() if _is_one_of(value, wrapped)]
    hidden = names.get("range", _range)
    try:
        names["range"] = _range if hidden is _range else hidden
        for place, key, value in replaced:
            place[key] = wrapped[value]
        yield
    finally:
        for place, key, value in replaced:
            place[key] = value
        if hidden is _range:
            del names["range"]


def _is_one_of(value: Any, wrapped: dict[Any, Any]) -> bool:
    return type(value) is type(math.sqrt) and value in wrapped
