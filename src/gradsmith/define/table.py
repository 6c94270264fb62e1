"""A primitive made of a table: a forward and one formula per argument."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from torch import Tensor

from gradsmith.define import tree
from gradsmith.define._private import base_of, is_view, transformed
from gradsmith.define.errors import CallError, FormulaError, GradsmithError
from gradsmith.define.formula import Formula, Vocabulary
from gradsmith.define.keep import Constant, Kept
from gradsmith.define.primitive import (
    SIMPLE,
    Layout,
    Meta,
    Needs,
    Plan,
    Primitive,
    Returned,
    Values,
    is_differentiable,
)
from gradsmith.define.program import jvp_plan, ranges, vjp_plan
from gradsmith.define.projection import project
from gradsmith.define.signature import Signature


@dataclass(frozen=True)
class Table:
    """All that an author wrote: shared by the primitives of every structure that the op is called with."""

    name: str
    forward: Callable[..., Any]
    signature: Signature
    words: Vocabulary
    formulas: tuple[Formula, ...]
    zero: frozenset[str]  # arguments whose formula is None: their gradient is zero
    jvp: Formula | None
    vmap: Callable[..., Any] | None
    once: bool


class TablePrimitive(Primitive):
    """The table applied to arguments of one structure."""

    def __init__(self, table: Table, structures: tuple[tree.Structure, ...]) -> None:
        names = [
            path for s, name in zip(structures, table.signature.names, strict=True) for path in tree.paths(s, name)
        ]
        super().__init__(table.name, tuple(names), table.once)
        self.table, self.structures = table, structures
        self.flat = all(structure == tree.LEAF for structure in structures)
        self.positions = ranges(table.signature.names, structures)
        self.owner = [name for name, span in self.positions.items() for _ in span]
        known = table.zero.union(*[formula.targets for formula in table.formulas])
        self.missing = tuple(index for index, name in enumerate(self.owner) if name not in known)
        self.plain_call = self.flat and table.signature.positional == len(self.owner)
        uncovered = self._uncovered()
        self.uncovered = [index for index, name in enumerate(self.owner) if name in uncovered]

    @property
    def anchored(self) -> bool:
        return self.once or bool(self.uncovered)

    def anchors(self, args: Values) -> list[Any]:
        if self.once:
            return list(args)
        return [args[i] for i in self.uncovered if is_differentiable(args[i]) and not args[i].is_leaf]

    def _uncovered(self) -> set[str]:
        """Arguments that some formula with a residual could leave unsaved."""
        with_residual = [f for f in self.table.formulas if any(need.kind == "residual" for need in f.needs)]
        asked = [{need.name for need in f.needs if need.kind == "argument"} for f in with_residual]
        covered: set[str] = set.intersection(*asked) if asked else set(self.table.signature.names)
        return set(self.table.signature.names) - covered

    def forward(self, args: Values, needs: Needs | None) -> Tensor | Returned:
        table = self.table
        if self.plain_call:
            result: Any = table.forward(*args)
        else:
            result = table.signature.call(table.forward, self.arguments(args))
        if isinstance(result, Tensor) and not table.words.outputs:
            return _fresh(result, args)  # type: ignore[no-any-return]
        return self.take_apart(result, args)

    def arguments(self, args: Values) -> list[Any]:
        """The author's arguments from the flat ones."""
        leaves = iter(args)
        return [tree.unflatten(structure, leaves) for structure in self.structures]

    def take_apart(self, result: Any, args: Values) -> Tensor | Returned:
        kept: dict[str, Any] = {}
        if isinstance(result, Kept):
            result, kept = result.out, result.residuals
        unknown = set(kept) - set(self.table.words.residuals)
        if unknown:
            raise FormulaError(f"op {self.name}: the forward keeps {sorted(unknown)}, not declared in residuals=")
        outputs: list[Any] = []
        structure = tree.flatten(result, outputs)
        self._check_outputs(structure, outputs)
        constant = tuple(isinstance(value, Constant) for value in kept.values())
        residuals = tuple(v.value if isinstance(v, Constant) else v for v in kept.values())
        return Returned(
            tuple(_fresh(out, args) for out in outputs), residuals, Layout(structure, tuple(kept), constant)
        )

    def _check_outputs(self, structure: tree.Structure, outputs: list[Any]) -> None:
        named = self.table.words.outputs
        if named and (structure == tree.LEAF or structure[0] != "tuple" or len(structure[2]) != len(named)):
            raise FormulaError(
                f"op {self.name}: the forward must return a tuple ({', '.join(named)}), as outputs= says"
            )
        for out in outputs:
            plain = structure != tree.LEAF and type(out) in tree.PLAIN
            if out is not None and not isinstance(out, Tensor) and not plain:
                raise CallError(
                    f"op {self.name}: the forward returned a {type(out).__name__}; an output is a tensor, None, or a "
                    f"list, tuple, dict or dataclass of them. Hand other values to the formulas with gs.keep."
                )

    def plan(self, needs: Needs, layout: Layout) -> Plan:
        key = needs if layout is SIMPLE else (needs, layout)
        plan = self.plans.get(key)
        if plan is None:
            plan = self.plans[key] = vjp_plan(self, needs, layout)
        return plan

    def jvp_plan(self, needs: Needs, layout: Layout) -> Plan:
        if self.table.jvp is None:
            return self.plan(needs, layout)
        key = ("jvp", needs, layout)
        plan = self.plans.get(key)
        if plan is None:
            plan = self.plans[key] = jvp_plan(self, needs, layout, self.table.jvp)
        return plan

    def output_ranges(self, layout: Layout) -> dict[str, range]:
        """The flat positions of each named output."""
        named = self.table.words.outputs
        return ranges(named, layout.outputs[2]) if named else {"out": range(tree.size(layout.outputs))}

    def vjp(self, plan: Plan, values: Values, upstream: Values, metas: Values, out_metas: Values | None) -> list[Any]:
        grads: list[Any] = [None] * len(self.owner)
        for index in self.missing:
            if plan.needs[index]:  # anything but None: its node, which raises, must be reached
                grads[index] = metas[index].zeros()
        several = len(upstream) > 1
        arriving = self._materialise(upstream, out_metas) if several and out_metas is not None else upstream
        environment = (*arriving, *values)
        for step in plan.program:
            if several and not self._arrives(step.formula, upstream, plan.layout):
                continue
            try:
                result = step.function(*step.gather(environment))
            except Exception as error:  # the author's code may raise anything
                self.complain(step.formula, error)
            index = step.target
            if index is None:
                self._distribute(step.formula, result, plan.needs, metas, arriving, grads)
            else:
                grads[index] = project(self.name, self.argument_names[index], result, metas[index], arriving)
        return grads

    def complain(self, formula: Formula, error: Exception) -> NoReturn:
        """Name and chain what a formula raised."""
        if isinstance(error, GradsmithError):
            raise error
        what = f"the formula for {', '.join(formula.targets)}" if formula.targets else "the jvp"
        raise FormulaError(f"op {self.name}: {what} raised {type(error).__name__}: {error}") from error

    def _materialise(self, upstream: Values, out_metas: Values) -> Values:
        return [
            meta.zeros() if grad is None and meta is not None and _floating(meta) else grad
            for grad, meta in zip(upstream, out_metas, strict=True)
        ]

    def _arrives(self, formula: Formula, upstream: Values, layout: Layout) -> bool:
        """Whether any of the upstream gradients that the formula asks for is there; else its gradient is zero."""
        if not self.table.words.outputs:
            return True
        spans = self.output_ranges(layout)
        asked = [index for need in formula.needs if need.kind == "upstream" for index in spans[need.name]]
        return any(upstream[index] is not None for index in asked)

    def _distribute(
        self,
        formula: Formula,
        result: Any,
        needs: Needs,
        metas: Values,
        arriving: Values,
        grads: list[Any],
    ) -> None:
        """Hand what a formula returned to the flat arguments that need it."""
        for target, gradient in zip(formula.targets, self._per_target(formula, result), strict=True):
            span = self.positions[target]
            for index, leaf in zip(span, self._leaves(target, gradient), strict=True):
                if needs[index]:
                    grads[index] = project(self.name, self.argument_names[index], leaf, metas[index], arriving)

    def _per_target(self, formula: Formula, result: Any) -> Sequence[Any]:
        if len(formula.targets) == 1:
            return (result,)
        if not isinstance(result, (tuple, list)) or len(result) != len(formula.targets):
            raise FormulaError(
                f"op {self.name}: the formula for {', '.join(formula.targets)} must return {len(formula.targets)} "
                f"gradients in that order, got {type(result).__name__}"
            )
        return result

    def _leaves(self, target: str, gradient: Any) -> list[Any]:
        structure = self.structures[self.table.signature.names.index(target)]
        if structure == tree.LEAF:
            return [gradient]
        leaves: list[Any] = []
        got = tree.flatten(gradient, leaves)
        if len(leaves) != tree.size(structure):
            raise FormulaError(
                f"op {self.name}: the formula for `{target}` must return gradients in the structure of the argument, "
                f"{tree.size(structure)} leaves ({', '.join(tree.paths(structure, target))}), got {len(leaves)}: "
                f"{got[0]}"
            )
        return leaves

    def jvp(self, plan: Plan, values: Values, tangents: Values, metas: Values, out_metas: Values) -> list[Any]:
        if self.table.jvp is None:
            return super().jvp(plan, values, tangents, metas, out_metas)
        from gradsmith.define.explicit import run_jvp

        return run_jvp(self, plan, values, tangents, metas, out_metas)

    def batch(self, info: Any, in_dims: Sequence[Any], args: Values) -> tuple[Returned, list[Any]] | None:
        if self.table.vmap is None:
            return None
        from gradsmith.define.explicit import run_vmap

        return run_vmap(self, info, in_dims, args)


def _fresh(out: Any, args: Values) -> Any:
    """An output as a tensor of its own, so that a following in-place operation does not fail on it.

    An identity forward (gradient reversal, clipping) returns one of its arguments, and that is copied. A view of what
    the forward made is detached: the same memory and count of writes, and no longer a view. A view of an argument
    stays one, since to write to it is to write to the argument.
    """
    for arg in args:
        if out is arg and isinstance(out, Tensor):
            return out.clone()
    if isinstance(out, Tensor) and is_view(out) and not transformed():
        bases = [base_of(arg) for arg in args if isinstance(arg, Tensor)]
        if not any(base_of(out) is base for base in bases):
            return out.detach()
    return out


def _floating(meta: Meta) -> bool:
    return meta.dtype.is_floating_point or meta.dtype.is_complex
