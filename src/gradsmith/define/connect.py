"""Residuals in a second derivative: a saved intermediate value is tied again to the arguments that it came from.

A residual is saved as a value, without the graph that made it. Used as it is in a gradient that is differentiated
again, it would silently count as a constant. So the value passes through a primitive of its own, which is the identity
until a derivative comes back, and only then runs the forward once more, differentiably.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gradsmith.define import tree
from gradsmith.define.errors import SecondDerivativeError
from gradsmith.define.primitive import (
    UNSAVED,
    Layout,
    Needs,
    Plan,
    Primitive,
    Returned,
    Slot,
    Values,
    is_differentiable,
    taken_apart,
)


def residuals(primitive: Primitive, plan: Plan, values: Values, path: Tensor | None) -> Values:
    """`values` with each residual that is a function of the arguments connected to them."""
    layout = plan.layout
    loose = [
        position
        for position, slot in enumerate(plan.slots)
        if slot.kind == "residual" and is_differentiable(values[position]) and not layout.constant[slot.index]
    ]
    if not loose:
        return values
    key = ("connection", plan)
    connection = primitive.plans.get(key)
    if connection is None:
        connection = _functions(Connection(primitive, plan, loose))
        if plan in primitive.plans.values():  # a plan that is used again; others are made for one call
            primitive.plans[key] = connection
    link = connection.primitive
    tied = connection.call(*[values[position] for position in loose], *link.arguments(values), path)
    connected = list(values)
    for position, value in zip(loose, tied[1:] if isinstance(tied, tuple) else (tied,), strict=True):
        connected[position] = value
    return connected


def _functions(connection: Connection) -> Any:
    from gradsmith.define.function import Functions

    return Functions(connection, None)


class Connection(Primitive):
    """The identity on residuals, whose vjp goes through the forward of `base` to its arguments."""

    def __init__(self, base: Primitive, plan: Plan, loose: list[int]) -> None:
        self.base, self.base_plan = base, plan
        self.wanted = [plan.slots[position].index for position in loose]
        names = [f"residual {plan.layout.residuals[index]}" for index in self.wanted]
        super().__init__(f"{base.name} (residuals)", (*names, *base.argument_names, "path"))

    def arguments(self, values: Values) -> list[Any]:
        """The value of every argument of the base, UNSAVED where it was not kept."""
        slots = self.base_plan.slots
        known = {s.index: v for s, v in zip(slots, values, strict=True) if s.kind in ("argument", "rest")}
        return [known.get(index, UNSAVED) for index in range(len(self.base.argument_names))]

    def forward(self, args: Values, needs: Needs | None) -> Tensor | Returned:
        kept = tuple(value.view_as(value) for value in args[: len(self.wanted)])
        if len(kept) == 1:
            return kept[0]  # type: ignore[no-any-return]
        return Returned(kept, (), Layout(outputs=("tuple", None, (tree.LEAF,) * len(kept))))

    def plan(self, needs: Needs, layout: Layout) -> Plan:
        count = len(self.argument_names) - 1
        return Plan(needs, layout, tuple(Slot("argument", index) for index in range(count)))

    def vjp(self, plan: Plan, values: Values, upstream: Values, metas: Values, out_metas: Values | None) -> list[Any]:
        skip = len(self.wanted)
        arguments = values[skip:]
        self._complain_of_missing(arguments)
        inputs = [index for index, argument in enumerate(arguments) if is_differentiable(argument)]

        def again(*tensors: Tensor) -> tuple[Tensor, ...]:
            full = list(arguments)
            for index, tensor in zip(inputs, tensors, strict=True):
                full[index] = tensor
            computed = taken_apart(self.base.forward(full, self.base_plan.needs)).residuals
            for index in self.wanted:
                if not computed[index].requires_grad:
                    raise self._error(
                        index, "its forward computes it in a way that autograd does not see, or at random"
                    )
            return tuple(computed[index] for index in self.wanted)

        with torch.enable_grad():
            _, pullback = torch.func.vjp(again, *[arguments[index] for index in inputs])  # type: ignore[misc]  # no aux
            zero = [torch.zeros_like(v) if u is None else u for u, v in zip(upstream, values, strict=False)]
            grads = pullback(tuple(zero))
        result: list[Any] = [None] * len(self.argument_names)
        for index, grad in zip(inputs, grads, strict=True):
            if plan.needs[skip + index]:
                result[skip + index] = grad
        return result

    def _complain_of_missing(self, arguments: Values) -> None:
        if self.base_plan.layout.dirty:
            raise self._error(self.wanted[0], "its forward writes to its arguments")
        for name, argument in zip(self.base.argument_names, arguments, strict=True):
            if argument is UNSAVED:
                raise self._error(
                    self.wanted[0],
                    f"`{name}`, which is needed to compute it again, was not saved, or was written to since: let the "
                    f"formula ask for `{name}`",
                )

    def _error(self, index: int, why: str) -> SecondDerivativeError:
        name = self.base_plan.layout.residuals[index]
        return SecondDerivativeError(
            f"{self.base.name}: a second derivative was asked for that goes through the residual `{name}`, and {why}. "
            f"If `{name}` does not depend on the arguments, keep it as gs.constant({name})."
        )
