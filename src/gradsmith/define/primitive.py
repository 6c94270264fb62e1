"""A primitive: what gradsmith differentiates. Flat arguments, flat outputs, a forward and a vjp.

Every way of writing a gradient (an op's table of formulas, a classic class, an opaque kernel, a batched form of any of
them) is a `Primitive`, and everything that makes a gradient right everywhere (`function.py`, `forward_mode.py`,
`batching.py`, `connect.py`) is written once, for primitives.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from gradsmith.define import tree
from gradsmith.define._private import version

Values = Sequence[Any]
Needs = tuple[bool, ...]  # one per flat argument: does its gradient matter in this call?


class Meta(NamedTuple):
    """What is remembered of a tensor that is not saved."""

    shape: torch.Size
    dtype: torch.dtype
    device: torch.device

    @staticmethod
    def of(value: object) -> Meta | None:
        return new_meta((value.shape, value.dtype, value.device)) if isinstance(value, Tensor) else None

    def zeros(self) -> Tensor:
        return torch.zeros(self.shape, dtype=self.dtype, device=self.device)

    def without(self, dim: int | None) -> Meta:
        """The same tensor seen by one example of a batch along `dim`."""
        return self if dim is None else self._replace(shape=drop_dim(self.shape, dim))


new_meta = partial(tuple.__new__, Meta)  # half the time of calling the class, at every call of every op


def drop_dim(shape: torch.Size, dim: int) -> torch.Size:
    kept = list(shape)
    del kept[dim]
    return torch.Size(kept)


class Slot(NamedTuple):
    """One value that a vjp needs: a flat argument, output or residual, or a fact about an argument.

    "rest" is an argument that no formula asks for, but that computing a residual again would take: it is kept where
    that costs nothing (a leaf, such as a parameter; a plain value) and is `UNSAVED` elsewhere.
    """

    kind: Literal["argument", "output", "residual", "shape", "dtype", "device", "rest"]
    index: int  # type: ignore[assignment]  # tuple.index is not used


@dataclass(frozen=True)
class Layout:
    """How the flat outputs and residuals of a call are to be read."""

    outputs: tree.Structure = tree.LEAF
    residuals: tuple[str, ...] = ()
    constant: tuple[bool, ...] = ()  # one per residual: is it taken as it is in a second derivative?
    non_differentiable: tuple[int, ...] = ()  # outputs that are no function to differentiate
    dirty: tuple[int, ...] = ()  # arguments that the forward wrote to and returned


SIMPLE = Layout()  # one tensor, nothing else


@dataclass(frozen=True, eq=False)
class Plan:
    """What one call needs for its vjp: worked out once per pattern of needed gradients."""

    needs: Needs
    layout: Layout
    slots: tuple[Slot, ...]
    program: Any = None  # how the primitive that made the plan goes from values to gradients
    wanted: tuple[int, ...] = field(init=False)  # the arguments whose gradient matters
    direct: tuple[tuple[bool, int], ...] | None = field(init=False)  # (is output, index) of each slot, if all are

    def __post_init__(self) -> None:
        kinds = {slot.kind for slot in self.slots}
        direct = tuple((slot.kind == "output", slot.index) for slot in self.slots)
        object.__setattr__(self, "wanted", tuple(index for index, need in enumerate(self.needs) if need))
        object.__setattr__(self, "direct", direct if kinds <= {"argument", "output"} else None)


class Unsaved:
    """Stands for an argument that nobody asked for and that would cost memory to keep."""

    def __repr__(self) -> str:
        return "UNSAVED"


UNSAVED = Unsaved()


class Held(NamedTuple):
    """A leaf that is kept only to compute a residual again: by reference, so that writing to it is no error before."""

    tensor: Tensor
    version: int

    def get(self) -> Tensor | Unsaved:
        return self.tensor if version(self.tensor) == self.version else UNSAVED


class Returned(NamedTuple):
    """The result of a forward, taken apart."""

    outputs: tuple[Any, ...]
    residuals: tuple[Any, ...] = ()
    layout: Layout = SIMPLE


@dataclass(eq=False)
class Primitive(ABC):
    """A function of `len(argument_names)` flat arguments, with the gradients of those in `differentiable`."""

    name: str
    argument_names: tuple[str, ...]  # one per flat argument: "weight", "params['w']"
    once: bool = False  # refuse to differentiate the gradients
    missing: tuple[int, ...] = ()  # arguments for which no gradient is known: to ask for it is an error
    plans: dict[Any, Any] = field(default_factory=dict, repr=False)  # what was worked out once for this primitive

    @abstractmethod
    def forward(self, args: Values, needs: Needs | None) -> Tensor | Returned:
        """Run the author's forward: one tensor, or more, taken apart. `needs` is None where it is not known yet."""

    @abstractmethod
    def plan(self, needs: Needs, layout: Layout) -> Plan:
        """What the vjp of this call needs."""

    @abstractmethod
    def vjp(self, plan: Plan, values: Values, upstream: Values, metas: Values, out_metas: Values | None) -> list[Any]:
        """The gradient of each flat argument that `plan.needs`; None for the others and for zeros.

        `values` has one entry per slot of the plan; `upstream` one per output, None where nothing arrives, and not all
        of them None; `metas` one `Meta` per argument (None for what is no tensor), `out_metas` one per output (None
        where there is one output only, which looks like its upstream).
        """

    def jvp_plan(self, needs: Needs, layout: Layout) -> Plan:
        """What the jvp of this call needs: the same, where it is derived from the vjp."""
        return self.plan(needs, layout)

    def jvp(self, plan: Plan, values: Values, tangents: Values, metas: Values, out_metas: Values) -> list[Any]:
        """The tangent of each output (None for what is not differentiable), derived from the vjp by transposition."""
        from gradsmith.define.forward_mode import transpose

        return transpose(self, plan, values, tangents, metas, out_metas)

    def batch(self, info: Any, in_dims: Sequence[Any], args: Values) -> tuple[Returned, list[Any]] | None:
        """The author's own rule for vmap: outputs, and the batch dimension of each. None: derive it."""
        return None

    def forward_needs(self, args: Values) -> Needs:
        """Which arguments could carry a tangent."""
        return tuple(is_differentiable(arg) for arg in args[: len(self.argument_names)])

    def logical(self, index: int, shape: torch.Size) -> torch.Size:
        """The shape of argument `index` as the author's code sees it."""
        return shape

    @property
    def anchored(self) -> bool:
        """Whether a call keeps a path to arguments that it may not save."""
        return self.once

    def anchors(self, args: Values) -> list[Any]:
        """Those arguments of this call."""
        return list(args)


def taken_apart(result: Tensor | Returned) -> Returned:
    return Returned((result,)) if isinstance(result, Tensor) else result


def is_differentiable(value: object) -> bool:
    """Whether `value` is a tensor of a floating-point or complex type."""
    return isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex())


def pick(slot: Slot, args: Values, outputs: Values, residuals: Values, logical: Callable[[int, Any], Any]) -> Any:
    """The value that a slot stands for."""
    kind, index = slot
    if kind == "argument":
        return args[index]
    if kind == "output":
        return outputs[index]
    if kind == "residual":
        return residuals[index]
    value = args[index]
    if kind == "rest":
        if not isinstance(value, Tensor):
            return value
        return Held(value, version(value)) if value.is_leaf else UNSAVED
    if not isinstance(value, Tensor):
        return None
    if kind == "shape":
        return logical(index, value.shape)
    return value.dtype if kind == "dtype" else value.device
