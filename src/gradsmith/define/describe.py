"""What an op is and what it saves, for a person to read."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gradsmith.define import saves
from gradsmith.define.primitive import Values, is_differentiable, pick, taken_apart

if TYPE_CHECKING:
    from gradsmith.define.table import Table, TablePrimitive


def saved_names(table: Table, needed: Iterable[str]) -> tuple[str, ...]:
    """What formulas for the `needed` arguments ask for, as names: "weight", "input.shape"."""
    names: dict[str, None] = {}
    for formula in saves.wanted(table.formulas, needed):
        for need in formula.needs:
            if need.kind in ("argument", "output", "residual"):
                names[need.name] = None
            elif need.kind in ("shape", "dtype", "device"):
                names[f"{need.name}.{need.kind}"] = None
    return tuple(names)


def describe(table: Table) -> str:
    """The table of formulas, and what each saves."""
    rows = []
    for name in table.signature.names:
        formula = next((f for f in table.formulas if name in f.targets), None)
        if formula is not None:
            kept = ", ".join(saved_names(table, [name])) or "nothing"
            rows.append((name, _one_line(formula.function), f"saves {kept}"))
        elif name in table.zero:
            rows.append((name, "zero", ""))
        else:
            rows.append((name, "no formula", ""))
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)] if rows else [0, 0]
    lines = [f"  {name:<{widths[0]}}  {text:<{widths[1]}}  {kept}".rstrip() for name, text, kept in rows]
    extras = [word for word, on in (("once", table.once), ("jvp", table.jvp), ("vmap", table.vmap)) if on]
    suffix = f"  [{', '.join(extras)}]" if extras else ""
    return "\n".join([f"op {table.name}({', '.join(table.signature.names)}){suffix}", *lines])


def _one_line(function: Callable[..., Any]) -> str:
    """A formula as it would be called; its text where it is a short lambda."""
    parameters = ", ".join(inspect.signature(function).parameters)
    return f"({parameters}) -> …" if function.__name__ == "<lambda>" else f"{function.__name__}({parameters})"


@dataclass(frozen=True)
class SavedTensor:
    """One tensor that a call saves."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    bytes: int


@dataclass(frozen=True)
class Explanation:
    """What one call of an op saves, and for which gradients."""

    op: str
    needed: tuple[str, ...]
    tensors: tuple[SavedTensor, ...]

    @property
    def bytes(self) -> int:
        """The total, each storage counted once."""
        return sum(tensor.bytes for tensor in self.tensors)

    def __str__(self) -> str:
        head = f"{self.op} saves {self.bytes:,} bytes for the gradients of {', '.join(self.needed) or 'nothing'}"
        rows = [f"  {t.name:<16} {t.shape!s:<20} {str(t.dtype)[6:]:<10} {t.bytes:>14,}" for t in self.tensors]
        return "\n".join([head, *rows])


def explain(primitive: TablePrimitive, args: Values) -> Explanation:
    """Run the forward and list what would be saved. A storage that two saved tensors share counts once."""
    needs = tuple(is_differentiable(arg) and arg.requires_grad for arg in args)
    with torch.no_grad():
        returned = taken_apart(primitive.forward(args, needs))
    plan = primitive.plan(needs, returned.layout)
    names = {
        "argument": primitive.argument_names,
        "rest": primitive.argument_names,
        "residual": returned.layout.residuals,
        "output": primitive.table.words.outputs or ("out",) * len(returned.outputs),
    }
    seen: set[int] = set()
    tensors = []
    for slot in plan.slots:
        value = pick(slot, args, returned.outputs, returned.residuals, primitive.logical)
        if isinstance(value, Tensor):
            storage = value.untyped_storage()
            size = 0 if storage.data_ptr() in seen else value.numel() * value.element_size()
            seen.add(storage.data_ptr())
            tensors.append(SavedTensor(names[slot.kind][slot.index], tuple(value.shape), value.dtype, size))
    needed = tuple(name for name, need in zip(primitive.argument_names, needs, strict=True) if need)
    return Explanation(primitive.name, needed, tuple(tensors))
