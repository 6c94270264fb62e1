"""Running a function on example inputs and recording every torch operation that it calls.

The record is made where torch dispatches its own functions (`torch.overrides.TorchFunctionMode`), above any
decomposition: an operation has the name that the author used. The tensors are real, so that control flow, helper
functions and isinstance just work. The rules run under the same tracer as the forward.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, cast

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from gradsmith.derive import rewrites, rules
from gradsmith.derive.calls import bind, name_of, rewrite_of, rule_of, written
from gradsmith.derive.errors import DeriveError, Unsupported
from gradsmith.derive.graph import Graph, Node
from gradsmith.derive.reduced import numbers_that_shape, reduced_dim
from gradsmith.derive.rules import Rule
from gradsmith.derive.scalars import TRACKED, computed, node_of, plain, tracked, without_history
from gradsmith.derive.sizes import Shape

# What leaves no trace: facts that are not printed, output for a person, and the switch that torch.no_grad sets.
_PASSED_ON = {
    *("is_floating_point", "is_complex", "is_contiguous", "is_cuda", "is_sparse", "layout", "requires_grad"),
    *("repr", "format", "_set_grad_enabled"),
}
_VALUES = ("item", "tolist", "numpy", "__bool__", "__float__", "__int__", "__index__", "__array__", "__contains__")
_OURS = str(Path(__file__).parent)
_RULES = (str(Path(rules.__file__).parent), rewrites.__file__)
_ENTRY = str(Path(__file__).with_name("derive.py"))
_TORCH = str(Path(torch.__file__).parent)
Simplify = Callable[["Tracer", str, dict[str, Any]], Node | None]


class Tracer(TorchFunctionMode):
    """Records into `graph`. What is called after `differentiating` is no longer the author's."""

    def __init__(self, simplify: Simplify) -> None:
        super().__init__()
        self.graph = Graph()
        self.simplify = simplify
        self._names: set[str] = set()
        self._read: dict[Any, Node] = {}  # a dtype or device that was read off a tensor

    # ---- leaves ------------------------------------------------------------------------------------------------

    def leaf(self, op: str, name: str, value: Any) -> Any:
        """An argument of the forward, or an upstream gradient: the tensor or number to compute with."""
        if isinstance(value, Tensor):
            value = value.detach().view_as(value)  # one object a leaf, whatever else the caller does with it
        node = self.graph.add(op, {"name": name}, value)
        node.name = name
        self._names.add(name)
        return value if node.is_tensor else tracked(self.graph, node)

    def differentiating(self) -> None:
        self.graph.authored = False

    def node(self, tensor: Tensor) -> Node:
        """The node of a tensor. Raises DeriveError for one that comes from outside."""
        node = self.graph.of(tensor)
        if node is None:
            raise DeriveError(
                f"derive: a tensor of shape {tuple(tensor.shape)} is used that is no argument{_place()}; give it to "
                f"the forward as an argument"
            )
        return node

    # ---- calls -------------------------------------------------------------------------------------------------

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = name_of(function)
        self._learn_names()
        try:
            as_called = args, kwargs or {}
            name, args, kwargs = written(name, *as_called)
            if name in _FACTS:
                return _FACTS[name](self, *args, **kwargs)
            if name in _PASSED_ON:
                return function(*args, **kwargs)
            rewrite = rewrite_of(name, args, kwargs)
            if rewrite is not None:
                with self:
                    return rewrite(*args, **kwargs)
            rule = rule_of(name)
            if rule is None:
                raise DeriveError(_complaint(name))
            positional, by_keyword = without_history(as_called[0]), without_history(as_called[1])
            return self._record(name, rule, bind(rule, args, kwargs), lambda: function(*positional, **by_keyword))
        except Unsupported as error:
            if not self.graph.authored:
                raise
            raise DeriveError(f"derive: torch's `{name}` has no rule {error}{_place()}") from None

    def _record(self, name: str, rule: Rule, args: dict[str, Any], compute: Callable[[], Any]) -> Any:
        bound = self._nodes(args)
        known = None if rule.random else self.graph.find(name, bound)
        if known is None and not self.graph.authored:
            known = self.simplify(self, name, bound)
        if known is None:
            known = self._add(name, bound, compute(), unique=rule.random)
        if name in ("unbind", "split") and not isinstance(bound.get("split_size"), tuple):
            size = self._size(bound["input"].value, plain(args["dim"]))
            self.graph.decide(f"{{}} is {plain(size)}", size.node)  # by it there are so many outputs
        return known.value

    def call(self, name: str, **bound: Any) -> Node:
        """The node of an operation, from nodes: what simplifications build with."""
        rule = rule_of(name)
        assert rule is not None
        parameters = rule.signature.parameters
        bound = {key: bound.get(key, parameter.default) for key, parameter in parameters.items()}
        known = self.graph.find(name, bound) or self.simplify(self, name, bound)
        if known is not None:
            return known
        function = _callable(name)
        given = {key: value for key, value in _values(bound).items() if value is not parameters[key].default}
        options = {key: given.pop(key) for key in ("keepdim",) if key in given}
        return self._add(name, bound, function(*given.values(), **options))

    def _add(self, name: str, bound: dict[str, Any], value: Any, unique: bool = False) -> Node:
        if isinstance(value, Tensor) and self.graph.of(value) is not None:
            value = value.view_as(value)  # an operation that returned its input: another node, another tensor
        node = self.graph.add(name, bound, value, unique=unique)
        if self.graph.authored:
            node.where = _place()
            node.stopped = not torch.is_grad_enabled()
        if isinstance(value, (tuple, list)):
            for index, entry in enumerate(value):
                self.graph.add("output", {"input": node, "index": index}, entry)
        return node

    def _nodes(self, value: Any) -> Any:
        """Arguments with every tensor and tracked number replaced by its node."""
        if isinstance(value, Tensor):
            return self.node(value)
        if isinstance(value, TRACKED):
            return node_of(value)
        if isinstance(value, (torch.dtype, torch.device)):
            return self._read.get(value, value)
        if isinstance(value, dict):
            return {key: self._nodes(entry) for key, entry in value.items()}
        if isinstance(value, (tuple, list)):
            return tuple(self._nodes(entry) for entry in value)
        if isinstance(value, slice):
            return slice(self._nodes(value.start), self._nodes(value.stop), self._nodes(value.step))
        if value is None or value is Ellipsis or type(value) in (bool, int, float, str):
            return value
        raise Unsupported(f"with a {type(value).__module__}.{type(value).__name__} among its arguments")

    # ---- facts about tensors -----------------------------------------------------------------------------------

    def _size(self, tensor: Tensor, dim: Any) -> Any:
        return Shape.of(self.graph, self.node(tensor))[dim]

    def _shape(self, tensor: Tensor) -> Any:
        return Shape.of(self.graph, self.node(tensor))

    def _size_or_shape(self, tensor: Tensor, dim: int | None = None) -> Any:
        return self._shape(tensor) if dim is None else self._size(tensor, dim)

    def _rank(self, tensor: Tensor) -> Any:
        if not self.graph.authored:
            return tensor.dim()  # rules decide by it, and count dimensions with it
        return computed(self.graph, "ndim", {"input": self.node(tensor)}, tensor.dim())

    def _numel(self, tensor: Tensor) -> Any:
        return computed(self.graph, "numel", {"input": self.node(tensor)}, tensor.numel())

    def _length(self, tensor: Tensor) -> int:
        size = self._size(tensor, 0)
        self.graph.decide(f"{{}} is {plain(size)}", size.node)
        return int(plain(size))

    def _dtype(self, tensor: Tensor) -> torch.dtype:
        return cast(torch.dtype, self._attribute("dtype", tensor))

    def _device(self, tensor: Tensor) -> torch.device:
        return cast(torch.device, self._attribute("device", tensor))

    def _attribute(self, name: str, tensor: Tensor) -> Any:
        value = getattr(tensor, name)
        args = {"input": self.node(tensor)}
        self._read[value] = self.graph.find(name, args) or self.graph.add(name, args, value)
        return value

    def _reduced_along(self, tensor: Tensor, wide: tuple[int, ...]) -> Any:
        """See `reduced_along` of the rules."""
        node = self.node(tensor)
        dim, rank = reduced_dim(node), len(wide)
        repeated = [d for d in range(rank) if wide[d] != node.shape[d]]
        number = dim.value if isinstance(dim, Node) else dim
        if type(number) is int and repeated == [number % rank]:
            return tracked(self.graph, dim) if isinstance(dim, Node) else dim
        self.graph.decide("", *numbers_that_shape(node))
        return None

    # ---- the author's names ------------------------------------------------------------------------------------

    def _learn_names(self) -> None:
        """Give values the names that variables have for them: the author's, or those of rules and rewrites."""
        for frame in _frames():
            file = frame.f_code.co_filename
            if not file.startswith((_OURS, _TORCH)):
                variables = set(frame.f_locals) if self.graph.authored else set()
            elif file.startswith(_RULES):
                variables = set(frame.f_locals) & set(frame.f_code.co_varnames[frame.f_code.co_argcount :])
            else:
                continue
            for name in sorted(variables):
                self._learn(name, frame.f_locals[name])

    @contextmanager
    def watching(self, forward: Any) -> Iterator[None]:
        """Learn the names of what a forward computes last, too, which no further call would show."""
        code, before = getattr(forward, "__code__", None), sys.getprofile()

        def at_return(frame: FrameType, event: str, value: Any) -> None:
            if event == "return" and frame.f_code is code:
                sys.setprofile(before)
                for name, value in sorted(frame.f_locals.items()):
                    self._learn(name, value)

        sys.setprofile(at_return)
        try:
            yield
        finally:
            sys.setprofile(before)

    def _learn(self, name: str, value: Any) -> None:
        node = self.graph.of(value) if isinstance(value, Tensor) else getattr(value, "node", None)
        if not isinstance(node, Node) or node.name is not None or node.authored is not self.graph.authored:
            return
        if not self.graph.authored or name not in self._names:
            node.name = name
            self._names.add(name)


_FACTS: dict[str, Callable[..., Any]] = {
    "shape": Tracer._shape,
    "size": Tracer._size_or_shape,
    "dim": Tracer._rank,
    "ndim": Tracer._rank,
    "numel": Tracer._numel,
    "nelement": Tracer._numel,
    "len": Tracer._length,
    "dtype": Tracer._dtype,
    "reduced_along": Tracer._reduced_along,
    "device": Tracer._device,
}


def _values(value: Any) -> Any:
    """The opposite of `Tracer._nodes`: what the nodes are on the example."""
    if isinstance(value, Node):
        return value.value
    if isinstance(value, dict):
        return {key: _values(entry) for key, entry in value.items()}
    if isinstance(value, tuple):
        return tuple(_values(entry) for entry in value)
    return value


def _callable(name: str) -> Callable[..., Any]:
    if name in ("mT", "T"):
        return lambda tensor: getattr(tensor, name)
    function: Callable[..., Any] = getattr(torch, name, None) or getattr(Tensor, name)
    return function


def _complaint(name: str) -> str:
    if name in _VALUES:
        return (
            f"derive: the forward turns the elements of a tensor into plain values{_place()}; what follows from them "
            f"cannot be printed. Compute with tensors (torch.where instead of if, unbind instead of a loop)"
        )
    if name.endswith("_") or (name.startswith("i") and rule_of(name[1:]) is not None) or name == "setitem":
        return f"derive: `{name}` writes to a tensor in place{_place()}; write a new tensor instead"
    return f"derive: there is no rule for torch's `{name}`{_place()}; write it in operations that have one"


def _place() -> str:
    """The line of the author's that is running."""
    for frame in _frames():
        if not frame.f_code.co_filename.startswith((_OURS, _TORCH)):
            return f" ({frame.f_code.co_filename}:{frame.f_lineno})"
    return ""


def _frames() -> Iterable[FrameType]:
    """The frames from the running one up to `derive`."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_code.co_filename != _ENTRY:
        yield frame
        frame = frame.f_back
