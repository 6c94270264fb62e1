"""Rules that an author gives instead of the derived ones: a jvp, a vmap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from gradsmith.define import tree
from gradsmith.define.errors import FormulaError
from gradsmith.define.forward_mode import differentiable_outputs
from gradsmith.define.primitive import Plan, Returned, Values, taken_apart

if TYPE_CHECKING:
    from gradsmith.define.table import TablePrimitive


def run_jvp(
    primitive: TablePrimitive, plan: Plan, values: Values, tangents: Values, metas: Values, out_metas: Values
) -> list[Any]:
    """Tangents from the author's jvp; tangents that did not arrive are zeros."""
    full = [
        meta.zeros() if tangent is None and meta is not None else tangent
        for tangent, meta in zip(tangents, metas, strict=False)
    ]
    assert primitive.table.jvp is not None
    step = plan.program[-1]
    try:
        result = step.function(*step.gather((*full, *values)))
    except Exception as error:  # the author's code may raise anything
        primitive.complain(step.formula, error)
    outs: list[Any] = []
    tree.flatten(result, outs)
    if len(outs) != len(out_metas):
        raise FormulaError(
            f"op {primitive.name}: the jvp returned {len(outs)} tangents, expected {len(out_metas)}, one per output"
        )
    live = set(differentiable_outputs(plan, out_metas))
    for index in live:
        out, meta = outs[index], out_metas[index]
        if not isinstance(out, Tensor) or out.shape != meta.shape:
            got = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
            raise FormulaError(
                f"op {primitive.name}: the jvp returned {got} for output {index}, expected a tensor of shape "
                f"{tuple(meta.shape)}"
            )
    return [out if index in live else None for index, out in enumerate(outs)]


def run_vmap(primitive: TablePrimitive, info: Any, in_dims: Sequence[Any], args: Values) -> tuple[Returned, list[Any]]:
    """The author's vmap: `rule(info, in_dims, *args) -> (output, out_dims)`, with in_dims in the structure of args."""
    assert primitive.table.vmap is not None
    dims = primitive.arguments(in_dims)
    result = primitive.table.vmap(info, tuple(dims), *primitive.arguments(args))
    if not isinstance(result, tuple) or len(result) != 2:
        raise FormulaError(
            f"op {primitive.name}: the vmap rule must return (output, out_dims), got {type(result).__name__}"
        )
    out, out_dims = result
    returned = taken_apart(primitive.take_apart(out, args))
    flat_dims: list[Any] = []
    tree.flatten(out_dims, flat_dims)
    if len(flat_dims) == 1:
        flat_dims = flat_dims * len(returned.outputs)
    return returned, [*flat_dims, *[None] * len(returned.residuals)]
