"""What a table of formulas saves: worked out from the names that its formulas ask for, and nothing else.

Everything here is pure: names and positions in, slots out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from gradsmith.define.formula import METADATA, Formula, Need
from gradsmith.define.primitive import Slot


@dataclass(frozen=True)
class Names:
    """Where each name of a call stands among its flat arguments, outputs and residuals."""

    arguments: Mapping[str, range]
    outputs: Mapping[str, range]
    residuals: Mapping[str, range]

    def slots(self, need: Need) -> list[Slot]:
        """The slots that a need takes; none for what is not saved (the upstream, the flags of what is needed)."""
        if need.kind in ("argument", *METADATA):
            return [Slot(need.kind, index) for index in self.arguments[need.name]]  # type: ignore[arg-type]
        if need.kind == "output":
            return [Slot("output", index) for index in self.outputs[need.name]]
        if need.kind == "residual":
            return [Slot("residual", index) for index in self.residuals.get(need.name, ())]
        return []


def wanted(formulas: Iterable[Formula], needed: Iterable[str]) -> list[Formula]:
    """The formulas that run when the gradients of `needed` arguments matter."""
    names = set(needed)
    return [formula for formula in formulas if names.intersection(formula.targets)]


def slots(formulas: Sequence[Formula], names: Names, rest: int) -> tuple[Slot, ...]:
    """What those formulas need, each once; with a residual among it, also the first `rest` arguments."""
    found = dict.fromkeys(slot for formula in formulas for need in formula.needs for slot in names.slots(need))
    if any(slot.kind == "residual" for slot in found):
        present = {slot.index for slot in found if slot.kind == "argument"}
        found.update(dict.fromkeys(Slot("rest", index) for index in range(rest) if index not in present))
    return tuple(found)
