"""vmap: a primitive over a batch is a primitive again, whose forward and vjp are those of one example under vmap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gradsmith.define.primitive import (
    SIMPLE,
    Layout,
    Meta,
    Needs,
    Plan,
    Primitive,
    Returned,
    Values,
    drop_dim,
    taken_apart,
)
from gradsmith.define.projection import repair


def apply_batched(primitive: Primitive, info: Any, in_dims: Sequence[Any], args: Values) -> Any:
    """The vmap rule of every primitive: `(output, out_dims)`, as torch.autograd.Function.vmap returns them."""
    from gradsmith.define.function import Functions, as_output

    size = len(primitive.argument_names)
    by_author = primitive.batch(info, in_dims[:size], args[:size])
    if by_author is not None:
        returned, dims = by_author
        flat = as_output(returned)
        return flat, (dims[0] if isinstance(flat, Tensor) else (None, *dims))
    key = ("batched", tuple(in_dims[:size]), info.randomness)
    functions = primitive.plans.get(key)
    if functions is None:
        functions = primitive.plans[key] = Functions(Batched(primitive, tuple(in_dims[:size]), info.randomness), None)
    flat = functions.transformed.apply(*args)
    if isinstance(flat, Tensor):
        return flat, 0
    dims = [0 if isinstance(value, Tensor) else None for value in flat[1:]]
    return flat, (None, *dims)


class Batched(Primitive):
    """`inner` over a batch: each argument has its batch along `in_dims`, each output and residual along 0."""

    def __init__(self, inner: Primitive, in_dims: tuple[int | None, ...], randomness: str) -> None:
        super().__init__(inner.name, inner.argument_names, inner.once)
        self.inner, self.in_dims, self.randomness = inner, in_dims, randomness

    def forward(self, args: Values, needs: Needs | None) -> Tensor | Returned:
        seen: list[Returned] = []

        def one(*example: Any) -> tuple[Tensor, ...]:
            returned = taken_apart(self.inner.forward(example, needs))
            seen.append(returned)
            return tuple(v for v in (*returned.outputs, *returned.residuals) if isinstance(v, Tensor))

        tensors = iter(self._vmap(one, self.in_dims)(*args))
        returned = seen[0]
        if returned.layout is SIMPLE:
            return next(tensors)  # type: ignore[no-any-return]
        outputs = tuple(next(tensors) if isinstance(v, Tensor) else v for v in returned.outputs)
        residuals = tuple(next(tensors) if isinstance(v, Tensor) else v for v in returned.residuals)
        return Returned(outputs, residuals, returned.layout)

    def _vmap(self, function: Any, in_dims: Any) -> Any:
        return torch.vmap(function, in_dims=in_dims, out_dims=0, randomness=self.randomness)

    def plan(self, needs: Needs, layout: Layout) -> Plan:
        return self.inner.plan(needs, layout)

    def jvp_plan(self, needs: Needs, layout: Layout) -> Plan:
        return self.inner.jvp_plan(needs, layout)

    def logical(self, index: int, shape: torch.Size) -> torch.Size:
        dim = self.in_dims[index]
        return self.inner.logical(index, shape if dim is None else drop_dim(shape, dim))

    def vjp(self, plan: Plan, values: Values, upstream: Values, metas: Values, out_metas: Values | None) -> list[Any]:
        arg_metas, output_metas = self._example_metas(metas, out_metas)
        live = [index for index, need in enumerate(plan.needs) if need]
        zero: set[int] = set()

        def one(values: Any, upstream: Any) -> tuple[Tensor, ...]:
            grads = self.inner.vjp(plan, values, upstream, arg_metas, output_metas)
            zero.update(index for index in live if grads[index] is None)
            return tuple(repair(grads[i], m) for i in live if i not in zero and (m := arg_metas[i]) is not None)

        dims = ([self._dim(plan, i, v) for i, v in enumerate(values)], [_front(grad) for grad in upstream])
        grads = iter(self._vmap(one, dims)(list(values), list(upstream)))
        result: list[Any] = [None] * len(self.argument_names)
        for index in live:
            if index not in zero:
                dim, grad = self.in_dims[index], next(grads)
                result[index] = grad.sum(0) if dim is None else grad.movedim(0, dim)
        return result

    def jvp(self, plan: Plan, values: Values, tangents: Values, metas: Values, out_metas: Values) -> list[Any]:
        arg_metas, output_metas = self._example_metas(metas, out_metas)
        zero: set[int] = set()

        def one(values: Any, tangents: Any) -> tuple[Tensor, ...]:
            outs = self.inner.jvp(plan, values, tangents, arg_metas, output_metas or [])
            zero.update(index for index, out in enumerate(outs) if out is None)
            return tuple(out for out in outs if out is not None)

        dims = ([self._dim(plan, i, v) for i, v in enumerate(values)], self._tangent_dims(tangents))
        outs = iter(self._vmap(one, dims)(list(values), list(tangents)))
        return [None if index in zero else next(outs) for index in range(len(out_metas))]

    def _tangent_dims(self, tangents: Values) -> list[int | None]:
        return [dim if isinstance(t, Tensor) else None for dim, t in zip(self.in_dims, tangents, strict=True)]

    def _dim(self, plan: Plan, position: int, value: Any) -> int | None:
        """Where the batch is in one of the values of a plan."""
        if not isinstance(value, Tensor):
            return None
        slot = plan.slots[position]
        return self.in_dims[slot.index] if slot.kind in ("argument", "rest") else 0

    def _example_metas(
        self, metas: Values, out_metas: Values | None
    ) -> tuple[list[Meta | None], list[Meta | None] | None]:
        """What one example of the batch sees."""
        arguments = [None if m is None else m.without(dim) for m, dim in zip(metas, self.in_dims, strict=False)]
        if out_metas is None:
            return arguments, None
        return arguments, [None if m is None else m.without(0) for m in out_metas]


def _front(value: Any) -> int | None:
    return 0 if isinstance(value, Tensor) else None
