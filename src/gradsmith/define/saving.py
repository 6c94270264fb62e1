"""What a call leaves on ctx for its gradients: as little as its plan asks for, all of it through save_for_backward."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor

from gradsmith.define import precision
from gradsmith.define._private import autocast_anywhere
from gradsmith.define.primitive import (
    SIMPLE,
    Held,
    Meta,
    Needs,
    Plan,
    Primitive,
    Returned,
    Values,
    is_differentiable,
    new_meta,
    pick,
    taken_apart,
)


class Saved(NamedTuple):
    """What a call leaves on ctx besides its saved tensors. Holds no tensor."""

    plan: Plan
    pointers: list[Any] | None  # per slot: (True, index of the saved tensor) or (False, value); None: all in order
    metas: list[Meta | None]
    out_metas: list[Meta | None] | None
    autocast: precision.State
    anchored: bool  # the last saved tensor is the anchor

    def values(self, tensors: Sequence[Tensor | None]) -> Values:
        if self.pointers is None:
            return tensors[: len(tensors) - 1] if self.anchored else tensors
        values = [tensors[content] if is_tensor else content for is_tensor, content in self.pointers]
        return [value.get() if type(value) is Held else value for value in values]


def remember(
    ctx: Any, primitive: Primitive, args: Values, result: Tensor | Returned, needs: Needs, for_forward: bool
) -> None:
    """Save on ctx what the gradients of this call need, and nothing else."""
    returned = taken_apart(result)
    layout = returned.layout
    ctx.set_materialize_grads(False)
    if layout is not SIMPLE or not is_differentiable(result):
        _mark(ctx, args, returned)
    if not for_forward and True not in needs:
        return
    extra = args[len(primitive.argument_names) :]
    tensors, ctx.kept = _collect(primitive, primitive.plan(needs, layout), args, returned, for_forward)
    ctx.save_for_backward(*tensors, *extra)
    if for_forward:
        plan = primitive.jvp_plan(primitive.forward_needs(args), layout)
        tensors, ctx.kept_forward = _collect(primitive, plan, args, returned, True)
        ctx.save_for_forward(*tensors, *extra)


def remember_one(ctx: Any, primitive: Primitive, args: Values, out: Tensor, needs: Needs) -> None:
    """`remember` for the most frequent call, without forward mode and with one output: it counts by the microsecond."""
    plan = primitive.plan(needs, SIMPLE)
    tensors, pointers = _direct(plan, args, (out,))
    if tensors is None:
        tensors, pointers = _pointers(primitive, plan, args, taken_apart(out))
    metas: list[Meta | None] = [None] * len(needs)
    for index in plan.wanted:
        arg = args[index]
        metas[index] = new_meta((arg.shape, arg.dtype, arg.device))
    autocast = precision.current((out,)) if autocast_anywhere() else None
    anchored = len(args) > len(needs)
    ctx.set_materialize_grads(False)
    ctx.kept = _new_saved((plan, pointers, metas, None, autocast, anchored))
    if anchored:
        tensors.append(args[-1])
    ctx.save_for_backward(*tensors)


_new_saved = partial(tuple.__new__, Saved)


def _collect(
    primitive: Primitive, plan: Plan, args: Values, returned: Returned, for_forward: bool
) -> tuple[list[Any], Saved]:
    tensors, pointers = _direct(plan, args, returned.outputs)
    if tensors is None:
        tensors, pointers = _pointers(primitive, plan, args, returned)
    outputs = returned.outputs
    metas = [Meta.of(arg) if need else None for arg, need in zip(args, plan.needs, strict=False)]
    out_metas = [Meta.of(out) for out in outputs] if for_forward or len(outputs) > 1 else None
    anchored = len(args) > len(plan.needs)
    return tensors, Saved(plan, pointers, metas, out_metas, precision.current(outputs), anchored)


def _direct(plan: Plan, args: Values, outputs: Values) -> tuple[list[Any] | None, None]:
    """The tensors of a plan where every slot is another tensor, which is the case for most calls of most ops."""
    if plan.direct is None:
        return None, None
    tensors: list[Any] = []
    for is_output, index in plan.direct:
        value = outputs[index] if is_output else args[index]
        if not isinstance(value, Tensor) or (tensors and any(other is value for other in tensors)):
            return None, None
        tensors.append(value)
    return tensors, None


def _pointers(primitive: Primitive, plan: Plan, args: Values, returned: Returned) -> tuple[list[Any], list[Any]]:
    """The tensors of a plan, each once, and where the value of each slot is to be found."""
    tensors: list[Any] = []
    pointers: list[Any] = []
    for slot in plan.slots:
        value = pick(slot, args, returned.outputs, returned.residuals, primitive.logical)
        if isinstance(value, Tensor):
            position = next((i for i, tensor in enumerate(tensors) if tensor is value), len(tensors))
            if position == len(tensors):
                tensors.append(value)
            pointers.append((True, position))
        else:
            pointers.append((False, value))
    return tensors, pointers


def _mark(ctx: Any, args: Values, returned: Returned) -> None:
    layout = returned.layout
    if layout.dirty:
        ctx.mark_dirty(*[args[index] for index in layout.dirty])
    marked = [
        out
        for index, out in enumerate(returned.outputs)
        if isinstance(out, Tensor) and (index in layout.non_differentiable or not is_differentiable(out))
    ]
    marked.extend(value for value in returned.residuals if isinstance(value, Tensor))
    if marked:
        ctx.mark_non_differentiable(*marked)
