"""Forward mode: the jvp of a primitive, derived from its vjp by transposition.

A vjp is linear in the upstream gradient: it computes Jᵀg. The transpose of that linear map is v ↦ Jv, which is the
jvp, and `torch.func.vjp` over the upstream gradient gives it. (For complex tensors "transpose" is the adjoint, as
everywhere in torch.) See *Linear transposition* in Radul et al., "You Only Linearize Once", https://arxiv.org/abs/2204.10923.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor

from gradsmith.define import connect, precision
from gradsmith.define._private import forward_ad_enabled
from gradsmith.define.errors import FormulaError
from gradsmith.define.primitive import Slot
from gradsmith.define.projection import repair

if TYPE_CHECKING:
    from gradsmith.define.primitive import Plan, Primitive, Values


def push(primitive: Primitive, ctx: Any, tangents: Sequence[Any]) -> list[Any]:
    """The jvp of every primitive: a tangent for each flat output, from those of the flat arguments."""
    from gradsmith.define.function import only_once

    kept = ctx.kept_forward
    tangents = tangents[: len(primitive.argument_names)]
    tensors = ctx.saved_tensors
    with forward_ad_enabled(), precision.replay(kept.autocast, [*tangents, *tensors]):
        path = _primal(tensors[-1]) if kept.anchored else None
        primals = [_primal(value) for value in kept.values(tensors)]
        known = dict(zip(kept.plan.slots, primals, strict=True))
        known.update({Slot("rest", slot.index): known[slot] for slot in kept.plan.slots if slot.kind == "argument"})
        plan = primitive.jvp_plan(tuple(tangent is not None for tangent in tangents), kept.plan.layout)
        values: Values = [known[slot] for slot in plan.slots]
        if primitive.once:
            outs = primitive.jvp(plan, values, tangents, kept.metas, kept.out_metas)
            return only_once(primitive, outs, [*tangents, *values, path])
        if kept.plan.layout.residuals:
            values = connect.residuals(primitive, plan, values, path)
        return primitive.jvp(plan, values, tangents, kept.metas, kept.out_metas)


def _primal(value: Any) -> Any:
    """A tensor without the tangent of the innermost level, whose rule this is; those of outer levels stay."""
    return forward_ad.unpack_dual(value, level=0).primal if isinstance(value, Tensor) else value


def transpose(
    primitive: Primitive, plan: Plan, values: Values, tangents: Values, metas: Values, out_metas: Values
) -> list[Any]:
    """The tangent of each output: the vjp of the vjp."""
    wanted = [index for index, tangent in enumerate(tangents) if tangent is not None]
    live = differentiable_outputs(plan, out_metas)
    outs: list[Any] = [None] * len(out_metas)
    if not wanted or not live:
        return outs

    def pullback(*upstream: Tensor) -> tuple[Tensor, ...]:
        full: list[Any] = [None] * len(out_metas)
        for index, grad in zip(live, upstream, strict=True):
            full[index] = grad
        grads = primitive.vjp(plan, values, full, metas, out_metas)
        _check_connected(primitive, grads)
        return tuple(repair(grads[index], metas[index]) for index in wanted)

    _, transposed = torch.func.vjp(pullback, *[out_metas[index].zeros() for index in live])  # type: ignore[misc]  # no aux
    for index, out in zip(live, transposed(tuple(tangents[index] for index in wanted)), strict=True):
        outs[index] = out
    return outs


def _check_connected(primitive: Primitive, grads: Sequence[Any]) -> None:
    """A gradient without a graph to the upstream (it was detached) would have a transpose of zero, silently."""
    for name, grad in zip(primitive.argument_names, grads, strict=True):
        if isinstance(grad, Tensor) and not grad.requires_grad:
            raise FormulaError(
                f"{primitive.name}: forward mode cannot be derived, since torch cannot differentiate the gradient of "
                f"`{name}` by the upstream: something detaches it. Give the jvp, or say that the gradient is zero "
                f"(None)."
            )


def differentiable_outputs(plan: Plan, out_metas: Values) -> list[int]:
    """The outputs that have a tangent."""
    return [
        index
        for index, meta in enumerate(out_metas)
        if meta is not None
        and (meta.dtype.is_floating_point or meta.dtype.is_complex)
        and index not in plan.layout.non_differentiable
    ]
