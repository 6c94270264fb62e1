"""The program of an op's plan: which formulas run, and where each of their parameters finds its value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from gradsmith.define import saves, tree
from gradsmith.define.errors import FormulaError
from gradsmith.define.formula import METADATA, Formula, Need
from gradsmith.define.primitive import Layout, Needs, Plan, Slot

if TYPE_CHECKING:
    from gradsmith.define.table import TablePrimitive

Environment = Sequence[Any]  # the upstream gradients of all outputs, then the saved values
Fetch = Callable[[Environment], Any]


@dataclass(frozen=True, slots=True)
class Step:
    """One formula to run."""

    formula: Formula
    function: Callable[..., Any]
    gather: Callable[[Environment], Sequence[Any]]  # its parameters, from the environment
    target: int | None  # the flat argument, where it gives the gradient of just one


def vjp_plan(primitive: TablePrimitive, needs: Needs, layout: Layout) -> Plan:
    """A plan for the gradients that are needed: the formulas run on the upstream gradients and what is saved."""
    needed = _needed(primitive, needs)
    running = saves.wanted(primitive.table.formulas, needed)
    return _plan(primitive, needs, layout, running, first=tree.size(layout.outputs))


def jvp_plan(primitive: TablePrimitive, needs: Needs, layout: Layout, jvp: Formula) -> Plan:
    """A plan for the author's jvp: it runs on the tangents of all arguments and what is saved."""
    return _plan(primitive, needs, layout, [jvp], first=len(primitive.owner))


def _needed(primitive: TablePrimitive, needs: Needs) -> set[str]:
    return {name for name, need in zip(primitive.owner, needs, strict=True) if need}


def _plan(primitive: TablePrimitive, needs: Needs, layout: Layout, running: Sequence[Formula], *, first: int) -> Plan:
    """`first` is where the saved values begin in the environment."""
    names = saves.Names(primitive.positions, primitive.output_ranges(layout), ranges(layout.residuals))
    for formula in running:
        _check_residuals(primitive.name, formula, layout)
    rest = 0 if primitive.once else len(primitive.owner)  # once: nothing is computed again
    slots = saves.slots(running, names, rest)
    where = {slot: first + position for position, slot in enumerate(slots)}
    needed = _needed(primitive, needs)
    flags = {name: name in needed for name in primitive.table.signature.names}
    steps = [
        _step(primitive, formula, [_fetch(primitive, need, names, where, layout, flags) for need in formula.needs])
        for formula in running
    ]
    return Plan(needs, layout, slots, steps)


def _step(primitive: TablePrimitive, formula: Formula, fetches: Sequence[Fetch | int]) -> Step:
    positions = [fetch for fetch in fetches if isinstance(fetch, int)]
    gather = itemgetter(*positions) if len(positions) == len(fetches) > 1 else _gatherer(fetches)
    alone = primitive.flat and len(formula.targets) == 1
    return Step(formula, formula.function, gather, primitive.positions[formula.targets[0]][0] if alone else None)


def _gatherer(fetches: Sequence[Fetch | int]) -> Callable[[Environment], Sequence[Any]]:
    def gather(environment: Environment) -> list[Any]:
        return [environment[f] if isinstance(f, int) else f(environment) for f in fetches]

    return gather


def _check_residuals(op: str, formula: Formula, layout: Layout) -> None:
    for need in formula.needs:
        if need.kind == "residual" and need.name not in layout.residuals:
            raise FormulaError(
                f"op {op}: the formula for {', '.join(formula.targets) or 'the jvp'} asks for the residual "
                f"`{need.name}`, which this call of the forward did not keep; return gs.keep(out, {need.name}=…)"
            )


def _fetch(
    primitive: TablePrimitive,
    need: Need,
    names: saves.Names,
    where: dict[Slot, int],
    layout: Layout,
    flags: dict[str, bool],
) -> Fetch | int:
    """How one parameter of a formula gets its value: a position in the environment, or a function of it."""
    if need.kind == "needs":
        return lambda environment: flags
    if need.kind == "upstream":
        at = list(names.outputs[need.name])
    elif need.kind == "tangent":
        at = list(names.arguments[need.name])
    else:
        at = [where[slot] for slot in names.slots(need)]
    structure = _structure_of(primitive, need, layout)
    if structure == tree.LEAF:
        return at[0]
    return lambda environment: tree.unflatten(structure, iter([environment[i] for i in at]))


def _structure_of(primitive: TablePrimitive, need: Need, layout: Layout) -> tree.Structure:
    if need.kind in ("argument", "tangent", *METADATA):
        return primitive.structures[primitive.table.signature.names.index(need.name)]
    if need.kind in ("output", "upstream"):
        named = primitive.table.words.outputs
        structure: tree.Structure = layout.outputs[2][named.index(need.name)] if named else layout.outputs
        return structure
    return tree.LEAF


def ranges(names: Sequence[str], structures: Sequence[tree.Structure] | None = None) -> dict[str, range]:
    """The flat positions of each name, one after the other."""
    spans: dict[str, range] = {}
    start = 0
    for index, name in enumerate(names):
        stop = start + (1 if structures is None else tree.size(structures[index]))
        spans[name] = range(start, stop)
        start = stop
    return spans
