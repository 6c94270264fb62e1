"""From a primitive to `torch.autograd.Function`: what is saved, and what happens in the backward.

Each primitive gets two classes. `plain` has torch's ctx style, which is quick. `transformed` has the setup_context
style that torch.func needs, where everything that is saved has to be an input or an output, so residuals become
additional outputs that are not differentiable.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from gradsmith.define import connect, precision
from gradsmith.define._private import autocast_anywhere, forward_ad_active, functorch_active, is_view
from gradsmith.define.batched_gradients import arrives_batched, pull_batched
from gradsmith.define.errors import MissingFormula, SecondDerivativeError
from gradsmith.define.forward_mode import push
from gradsmith.define.guard import anchor, refuse
from gradsmith.define.origin import Origin
from gradsmith.define.primitive import (
    SIMPLE,
    Primitive,
    Returned,
    is_differentiable,
)
from gradsmith.define.saving import Saved, remember, remember_one


class Functions:
    """The two Function classes of one primitive, and the choice between them."""

    def __init__(self, primitive: Primitive, origin: Origin | None) -> None:
        self.primitive = primitive
        if origin is not None:
            origin = replace(origin, call=self.tensors)
        self.plain = _plain(primitive, origin)
        self.transformed = _transformed(primitive, origin)
        self.apply: Callable[..., Any] = self.plain.apply
        self.indirect = bool(primitive.missing) or primitive.anchored

    def call(self, *args: Any) -> Any:
        """Apply to flat arguments: a tensor, or (layout, *outputs) where there is more than one."""
        if self.indirect:
            args = self._prepare(args)
        if not functorch_active():
            return self.apply(*args)
        result = self.transformed.apply(*args)
        if type(result) is tuple:
            return result[: len(result) - len(result[0].residuals)]
        return result

    def tensors(self, *args: Any) -> Any:
        """Apply to flat arguments: a tensor, or the flat outputs."""
        result = self.call(*args)
        return result if isinstance(result, Tensor) else result[1:]

    def _prepare(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        args = self._without_missing(args)
        return (*args, anchor(self.primitive.anchors(args))) if self.primitive.anchored else args

    def _without_missing(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        changed = list(args)
        for index in self.primitive.missing:
            if is_differentiable(args[index]):
                (changed[index],) = refuse(_no_formula(self.primitive, index), [args[index]])
        return tuple(changed)


def _no_formula(primitive: Primitive, index: int) -> Any:
    def complaint() -> Exception:
        name = primitive.argument_names[index]
        return MissingFormula(
            f"op {primitive.name}: the gradient of `{name}` was asked for, but it has no formula. Write one "
            f"(`{name}=lambda grad, …: …`), `{name}=None` if its gradient is zero, or detach what is passed."
        )

    return complaint


def _no_second(primitive: Primitive) -> Any:
    def complaint() -> Exception:
        return SecondDerivativeError(
            f"{primitive.name} is once differentiable: its gradient was declared not to be differentiable again "
            f"(once=True, or @once_differentiable), and a second derivative was asked for."
        )

    return complaint


def _plain(primitive: Primitive, origin: object) -> type[torch.autograd.Function]:
    size = len(primitive.argument_names)

    def forward(ctx: Any, *args: Any) -> Any:
        needs = ctx.needs_input_grad
        for_forward = forward_ad_active()
        if len(args) == size and not for_forward:
            result = primitive.forward(args, needs)
        else:
            needs = needs[:size]
            result = primitive.forward(args[:size], primitive.forward_needs(args) if for_forward else needs)
            result = _without_views(result) if for_forward else result
        if for_forward or not is_differentiable(result):
            remember(ctx, primitive, args, result, needs, for_forward)
            if type(result) is Returned:
                return (result.layout, *result.outputs)
        elif True in needs:
            remember_one(ctx, primitive, args, result, needs)  # type: ignore[arg-type]
        return result

    def backward(ctx: Any, *upstream: Any) -> Any:
        kept = ctx.kept
        return pull(primitive, ctx, kept, upstream if kept.plan.layout is SIMPLE else upstream[1:])

    def jvp(ctx: Any, *tangents: Any) -> Any:
        outs = push(primitive, ctx, tangents)
        return outs[0] if ctx.kept.plan.layout is SIMPLE else (None, *outs)

    methods = {"forward": forward, "backward": backward, "jvp": jvp}
    return _make_class(primitive, origin, methods, {})


def _without_views(result: Tensor | Returned) -> Tensor | Returned:
    """The same with copies of outputs that are views: torch cannot give a tangent to a view made in a forward."""
    if isinstance(result, Tensor):
        return result.clone() if is_view(result) else result
    outputs = tuple(out.clone() if isinstance(out, Tensor) and is_view(out) else out for out in result.outputs)
    return result if result.layout.dirty else result._replace(outputs=outputs)


def _transformed(primitive: Primitive, origin: object) -> type[torch.autograd.Function]:
    from gradsmith.define.batching import apply_batched

    size = len(primitive.argument_names)

    def forward(*args: Any) -> Any:
        result = primitive.forward(args[:size], None)
        return as_output(_without_views(result) if forward_ad_active() else result)

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        remember(ctx, primitive, inputs, from_output(output), ctx.needs_input_grad[:size], True)

    def backward(ctx: Any, *upstream: Any) -> Any:
        kept = ctx.kept
        layout = kept.plan.layout
        arriving = upstream if layout is SIMPLE else upstream[1 : len(upstream) - len(layout.residuals)]
        return pull(primitive, ctx, kept, arriving)

    def jvp(ctx: Any, *tangents: Any) -> Any:
        layout = ctx.kept.plan.layout
        outs = push(primitive, ctx, tangents)
        return outs[0] if layout is SIMPLE else (None, *outs, *[None] * len(layout.residuals))

    def vmap(info: Any, in_dims: tuple[Any, ...], *args: Any) -> Any:
        return apply_batched(primitive, info, in_dims, args)

    methods = {
        "forward": forward,
        "setup_context": setup_context,
        "backward": backward,
        "jvp": jvp,
        "vmap": vmap,
    }
    return _make_class(primitive, origin, methods, {})


def _make_class(
    primitive: Primitive, origin: object, methods: dict[str, Any], extra: dict[str, Any]
) -> type[torch.autograd.Function]:
    body = {name: staticmethod(method) for name, method in methods.items()}
    identifier = primitive.name if primitive.name.isidentifier() else "Op"
    doc = f"The torch.autograd.Function of {primitive.name}."
    return type(identifier, (torch.autograd.Function,), {**body, **extra, "__gradsmith__": origin, "__doc__": doc})


def as_output(result: Tensor | Returned) -> Any:
    """A result as what a Function returns: flat, and the layout travels along as a plain value."""
    if isinstance(result, Tensor):
        return result
    return (result.layout, *result.outputs, *result.residuals)


def from_output(output: Any) -> Tensor | Returned:
    """The inverse of `as_output`."""
    if isinstance(output, Tensor):
        return output
    layout = output[0]
    cut = len(output) - len(layout.residuals)
    return Returned(tuple(output[1:cut]), tuple(output[cut:]), layout)


def pull(primitive: Primitive, ctx: Any, kept: Saved, upstream: Sequence[Any]) -> tuple[Any, ...]:
    """The backward of every primitive: gradients for the flat arguments, from the upstream gradients."""
    if arrives_batched(upstream):
        return pull_batched(lambda grads: pull(primitive, ctx, kept, grads), upstream)
    if upstream[0] is None and all(grad is None for grad in upstream):
        grads: Sequence[Any] = [None] * len(kept.plan.needs)
    elif kept.autocast is not None or autocast_anywhere():
        with precision.replay(kept.autocast, upstream):
            grads = _gradients(primitive, kept, ctx.saved_tensors, upstream)
    elif kept.plan.layout is SIMPLE and not kept.anchored:  # the most frequent call: it counts by the microsecond
        values = ctx.saved_tensors if kept.pointers is None else kept.values(ctx.saved_tensors)
        return tuple(primitive.vjp(kept.plan, values, upstream, kept.metas, None))
    else:
        grads = _gradients(primitive, kept, ctx.saved_tensors, upstream)
    return (*grads, None) if kept.anchored else tuple(grads)


def _gradients(primitive: Primitive, kept: Saved, tensors: Any, upstream: Sequence[Any]) -> list[Any]:
    values = kept.values(tensors)
    if not primitive.once and not kept.plan.layout.residuals:
        return primitive.vjp(kept.plan, values, upstream, kept.metas, kept.out_metas)
    path = tensors[-1] if kept.anchored else None
    if primitive.once:
        with torch.no_grad():
            grads = primitive.vjp(kept.plan, values, upstream, kept.metas, kept.out_metas)
        return only_once(primitive, grads, [*upstream, *values, path])
    if torch.is_grad_enabled() or forward_ad_active():
        values = connect.residuals(primitive, kept.plan, values, path)
    return primitive.vjp(kept.plan, values, upstream, kept.metas, kept.out_metas)


def only_once(primitive: Primitive, grads: Sequence[Any], paths: Sequence[Any]) -> list[Any]:
    """The same gradients, with an error on every way back from them."""
    if not torch.is_grad_enabled() and not forward_ad_active():
        return list(grads)
    present = [grad for grad in grads if isinstance(grad, Tensor)]
    guarded = iter(refuse(_no_second(primitive), present, paths)) if present else iter(())
    return [next(guarded) if isinstance(grad, Tensor) else None for grad in grads]
