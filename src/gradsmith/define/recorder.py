"""What a classic forward left on ctx, read after it has run: which tensor is an argument, an output or a residual."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from torch import Tensor

from gradsmith.define import tree
from gradsmith.define.context import ForwardContext
from gradsmith.define.errors import CallError, ContextWarning
from gradsmith.define.primitive import Layout, Returned, Slot, Values

if TYPE_CHECKING:
    from gradsmith.define.classic import Function

_warned: WeakSet[type] = WeakSet()  # classes whose tensors on ctx have been complained of


@dataclass(frozen=True, eq=False)
class ClassLayout(Layout):
    """What one call of a classic forward left on ctx; slots stand for tensors."""

    saved: tuple[Slot | None, ...] = ()
    saved_forward: tuple[Slot | None, ...] = ()
    attributes: dict[str, tree.Structure] = field(default_factory=dict)  # name -> structure of `attribute_leaves`
    attribute_leaves: tuple[Any, ...] = ()  # slots in the place of tensors
    materialize: bool = True


def read_context(
    ctx: ForwardContext, cls: type[Function], args: Values, outputs: Values, structure: tree.Structure
) -> Returned:
    """The result of a classic forward. Warns of tensors left on ctx, once for each class."""
    return _Reader(cls, args, outputs).read(ctx, structure)


class _Reader:
    def __init__(self, cls: type[Function], args: Values, outputs: Values) -> None:
        self.cls, self.args, self.outputs = cls, args, outputs
        self.residuals: list[Tensor] = []

    def read(self, ctx: ForwardContext, structure: tree.Structure) -> Returned:
        saved = self._slots(ctx._tensors, "save_for_backward")
        saved_forward = self._slots(ctx._forward_tensors, "save_for_forward")
        structures, leaves, on_ctx = self._attributes(ctx._attributes)
        if on_ctx:
            _warn(self.cls, on_ctx)
        layout = ClassLayout(
            outputs=structure,
            residuals=tuple(f"saved tensor {index}" for index in range(len(self.residuals))),
            constant=(False,) * len(self.residuals),
            non_differentiable=self._positions(ctx._non_differentiable, self.outputs, "mark_non_differentiable"),
            dirty=self._positions(ctx._dirty, self.args, "mark_dirty"),
            saved=saved,
            saved_forward=saved_forward,
            attributes=structures,
            attribute_leaves=leaves,
            materialize=ctx._materialize,
        )
        return Returned(tuple(self.outputs), tuple(self.residuals), layout)

    def _slots(self, tensors: Sequence[Any], method: str) -> tuple[Slot | None, ...]:
        for tensor in tensors:
            if tensor is not None and not isinstance(tensor, Tensor):
                raise CallError(
                    f"{self.cls.__name__}: ctx.{method} takes tensors or None, got {kind_of(tensor)}; plain values go "
                    f"on ctx as attributes"
                )
        return tuple(None if tensor is None else self._slot(tensor) for tensor in tensors)

    def _slot(self, tensor: Tensor) -> Slot:
        for index, arg in enumerate(self.args):
            if arg is tensor:
                return Slot("argument", index)
        for index, out in enumerate(self.outputs):
            if out is tensor:
                return Slot("output", index)
        for index, residual in enumerate(self.residuals):
            if residual is tensor:
                return Slot("residual", index)
        self.residuals.append(tensor)
        return Slot("residual", len(self.residuals) - 1)

    def _attributes(self, attributes: dict[str, Any]) -> tuple[dict[str, tree.Structure], tuple[Any, ...], list[str]]:
        structures: dict[str, tree.Structure] = {}
        leaves: list[Any] = []
        on_ctx = []
        for name, value in attributes.items():
            if name == "needs_input_grad":
                continue
            start = len(leaves)
            structures[name] = tree.flatten(value, leaves)
            if any(isinstance(leaf, Tensor) for leaf in leaves[start:]):
                on_ctx.append(name)
        return (
            structures,
            tuple(self._slot(leaf) if isinstance(leaf, Tensor) else leaf for leaf in leaves),
            on_ctx,
        )

    def _positions(self, tensors: Sequence[Any], among: Values, method: str) -> tuple[int, ...]:
        found = []
        for tensor in tensors:
            position = next((index for index, value in enumerate(among) if value is tensor), None)
            if position is None:
                what = "an argument" if method == "mark_dirty" else "an output"
                raise CallError(f"{self.cls.__name__}: ctx.{method} was given a tensor that is not {what} of the call")
            found.append(position)
        return tuple(found)


def _warn(cls: type[Function], names: list[str]) -> None:
    if cls in _warned:
        return
    _warned.add(cls)
    warnings.warn(
        f"{cls.__name__}.forward leaves tensors on ctx ({', '.join('ctx.' + name for name in names)}), where "
        f"saved-tensor hooks, checkpointing and the check for in-place changes do not see them. They are saved as they "
        f"should be; write ctx.save_for_backward(…) to say so yourself.",
        ContextWarning,
        stacklevel=2,
    )


def kind_of(value: object) -> str:
    """A value as a message names it."""
    return "None" if value is None else f"a {type(value).__name__}"
