"""A primitive made of a classic Function: its forward and backward on `ctx`."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gradsmith.define import tree
from gradsmith.define._private import AUTOCAST_MARKS
from gradsmith.define.context import BackwardContext, ForwardContext
from gradsmith.define.errors import CallError, FormulaError
from gradsmith.define.forward_mode import differentiable_outputs
from gradsmith.define.primitive import (
    SIMPLE,
    Layout,
    Needs,
    Plan,
    Primitive,
    Returned,
    Slot,
    Values,
    is_differentiable,
)
from gradsmith.define.recorder import ClassLayout, kind_of, read_context

if TYPE_CHECKING:
    from gradsmith.define.classic import Function

_TORCH = torch.autograd.function.once_differentiable.__module__


class ClassPrimitive(Primitive):
    """A classic Function, applied to arguments of one structure."""

    def __init__(self, cls: type[Function], structures: tuple[tree.Structure, ...]) -> None:
        names = [p for s, n in zip(structures, cls._signature.names, strict=True) for p in tree.paths(s, n)]
        backward = cls.vjp if cls.backward is torch.autograd.Function.backward else cls.backward
        guarded = _once_differentiable(backward)
        self.backward = backward if guarded is None else guarded  # our own guard takes the place of torch's
        super().__init__(cls.__name__, tuple(names), once=guarded is not None)
        self.cls, self.structures = cls, structures
        sizes = [tree.size(structure) for structure in structures]
        self.spans = [range(sum(sizes[:i]), sum(sizes[: i + 1])) for i in range(len(sizes))]

    @property
    def anchored(self) -> bool:
        return True  # what a backward saves is known only after the forward

    def anchors(self, args: Values) -> list[Any]:
        return [arg for arg in args if is_differentiable(arg) and (self.once or not arg.is_leaf)]

    # ---- forward -----------------------------------------------------------------------------------------------

    def forward(self, args: Values, needs: Needs | None) -> Tensor | Returned:
        leaves = iter(args)
        values = [tree.unflatten(structure, leaves) for structure in self.structures]
        ctx = ForwardContext(self._per_argument(needs or self.forward_needs(args)))
        if has_setup(self.cls):
            result = self.cls._signature.call(self.cls.forward, values)
            _carry_autocast_marks(ctx, values)
            self.cls.setup_context(ctx, tuple(values), result)
        else:
            result = self.cls._signature.call(lambda *a, **k: self.cls.forward(ctx, *a, **k), values)
        outputs, structure = self._outputs(result)
        return read_context(ctx, self.cls, args, outputs, structure)

    def _outputs(self, result: Any) -> tuple[tuple[Any, ...], tree.Structure]:
        outputs = result if isinstance(result, tuple) else (result,)
        for out in outputs:
            if out is not None and not isinstance(out, Tensor):
                raise CallError(
                    f"{self.name}.forward returned {kind_of(result)}; autograd does not look into it, so its tensors "
                    f"would have no gradient. Return a tensor or a tuple of tensors."
                )
        structure: list[Any] = []
        return tuple(outputs), tree.flatten(result, structure)

    def _per_argument(self, needs: Needs) -> tuple[bool, ...]:
        return tuple(any(needs[index] for index in span) for span in self.spans)

    # ---- backward ----------------------------------------------------------------------------------------------

    def plan(self, needs: Needs, layout: Layout) -> Plan:
        if layout is SIMPLE:
            return Plan(needs, layout, ())
        assert isinstance(layout, ClassLayout)
        found = dict.fromkeys(
            slot for slot in (*layout.saved, *layout.saved_forward, *layout.attribute_leaves) if isinstance(slot, Slot)
        )
        if not self.once and any(slot.kind == "residual" for slot in found):
            present = {slot.index for slot in found if slot.kind == "argument"}
            rest = [Slot("rest", index) for index in range(len(self.argument_names)) if index not in present]
            found.update(dict.fromkeys(rest))
        return Plan(needs, layout, tuple(found))

    def context(self, plan: Plan, values: Values, forward_mode: bool = False) -> BackwardContext:
        """The ctx of one backward or jvp."""
        layout = plan.layout
        needs = self._per_argument(plan.needs)
        if not isinstance(layout, ClassLayout):
            return BackwardContext(tuple, {}, needs)
        known = dict(zip(plan.slots, values, strict=True))
        saved = (layout.saved_forward or layout.saved) if forward_mode else layout.saved
        leaves = iter([known[leaf] if isinstance(leaf, Slot) else leaf for leaf in layout.attribute_leaves])
        attributes = {name: tree.unflatten(structure, leaves) for name, structure in layout.attributes.items()}
        return BackwardContext(lambda: [None if slot is None else known[slot] for slot in saved], attributes, needs)

    def vjp(self, plan: Plan, values: Values, upstream: Values, metas: Values, out_metas: Values | None) -> list[Any]:
        if out_metas is not None and getattr(plan.layout, "materialize", True):
            upstream = [
                meta.zeros() if grad is None and meta is not None else grad
                for grad, meta in zip(upstream, out_metas, strict=True)
            ]
        result = self.backward(self.context(plan, values), *upstream)
        given = list(result) if isinstance(result, tuple) else [result]
        count = len(self.structures)
        if len(given) < count or any(extra is not None for extra in given[count:]):
            raise FormulaError(
                f"{self.name}.backward returned {len(given)} gradients, expected {count}, one for each argument of "
                f"forward: ({', '.join(self.cls._signature.names)}); None for what has none"
            )
        grads: list[Any] = []
        for name, structure, span, grad in zip(
            self.cls._signature.names, self.structures, self.spans, given, strict=False
        ):
            grads.extend(self._leaves(name, structure, [plan.needs[i] for i in span], grad))
        return [grad if need else None for grad, need in zip(grads, plan.needs, strict=True)]

    def _leaves(self, name: str, structure: tree.Structure, needs: list[bool], grad: Any) -> list[Any]:
        if structure == tree.LEAF:
            return [grad]
        if grad is None and not any(needs):
            return [None] * len(needs)
        leaves: list[Any] = []
        tree.flatten(grad, leaves)
        if len(leaves) != len(needs):
            raise FormulaError(
                f"{self.name}.backward returned {kind_of(grad)} for `{name}`, whose tensors are tracked; return "
                f"gradients in its structure: {', '.join(tree.paths(structure, name))}"
            )
        return leaves

    # ---- rules of the author's own -----------------------------------------------------------------------------

    def jvp(self, plan: Plan, values: Values, tangents: Values, metas: Values, out_metas: Values) -> list[Any]:
        if self.cls.jvp is torch.autograd.Function.jvp:
            return super().jvp(plan, values, tangents, metas, out_metas)
        leaves = iter(tangents)
        given = [tree.unflatten(structure, leaves) for structure in self.structures]
        result = self.cls.jvp(self.context(plan, values, forward_mode=True), *given)
        outs = list(result) if isinstance(result, tuple) else [result]
        live = differentiable_outputs(plan, out_metas)
        if len(outs) != len(out_metas):
            raise FormulaError(
                f"{self.name}.jvp returned {len(outs)} tangents, expected {len(out_metas)}, one per output"
            )
        return [out if index in live else None for index, out in enumerate(outs)]

    def batch(self, info: Any, in_dims: Sequence[Any], args: Values) -> tuple[Returned, list[Any]] | None:
        if self.cls.vmap is torch.autograd.Function.vmap:
            return None
        dims, leaves = iter(in_dims), iter(args)
        result, out_dims = self.cls.vmap(  # type: ignore[no-untyped-call]
            info,
            tuple(tree.unflatten(structure, dims) for structure in self.structures),
            *[tree.unflatten(structure, leaves) for structure in self.structures],
        )
        outputs, structure = self._outputs(result)
        flat = list(out_dims) if isinstance(out_dims, (tuple, list)) else [out_dims] * len(outputs)
        return Returned(outputs, (), Layout(structure)), flat


def has_setup(cls: type[Function]) -> bool:
    """Whether the Function has the setup_context style."""
    return cls.setup_context is not torch.autograd.Function.setup_context


def _once_differentiable(backward: Any) -> Any:
    """The author's backward inside torch's once_differentiable; None where that is not around it."""
    wrapper = inspect.unwrap(backward, stop=_is_torchs)
    return wrapper.__wrapped__ if _is_torchs(wrapper) and hasattr(wrapper, "__wrapped__") else None


def _is_torchs(function: Any) -> bool:
    return getattr(function, "__globals__", {}).get("__name__") == _TORCH


def _carry_autocast_marks(ctx: ForwardContext, values: Sequence[Any]) -> None:
    """Put on ctx what torch.amp.custom_fwd left on the first argument, which it took for ctx."""
    if values and isinstance(values[0], Tensor):
        for mark in AUTOCAST_MARKS:
            if mark in values[0].__dict__:
                setattr(ctx, mark, values[0].__dict__.pop(mark))
