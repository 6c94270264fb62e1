"""The table of what `derive` knows: for each torch operation, its parameters and the gradient of each.

A rule reads as an op does. The signature names the parameters as torch does; each formula gives the gradient of one
of them, and its own parameter names say what it needs: `grad`, `out`, or the operation's parameters. Formulas are
plain torch code. They run on the tensors of the example, under the same tracer as the forward, and what is recorded
of them becomes the printed source.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Formula = Callable[..., Any]
# "elementwise": each element from those at the same place; "move": elements moved about, or made of nothing;
# "work": everything else, worth keeping rather than computing again.
Kind = Literal["elementwise", "move", "work"]


@dataclass(frozen=True)
class Rule:
    """One torch operation."""

    name: str
    signature: inspect.Signature
    formulas: Mapping[str, Formula | None]  # parameter -> gradient, None for zero; empty where all of them are zero
    wants: dict[str, tuple[str, ...]]  # parameter -> the names that its formula asks for
    kind: Kind
    random: bool = False
    differentiable: bool = True  # False: an operation that rules use, and that has no rule of its own

    @property
    def variadic(self) -> str | None:
        """The parameter that takes sizes or dimensions, as a tuple or one by one."""
        return next((p.name for p in self.signature.parameters.values() if p.kind is p.VAR_POSITIONAL), None)


RULES: dict[str, Rule] = {}


def rule(name: str, signature: str, **formulas: Formula | None) -> None:
    """A differentiable operation: `rule("exp", "input", input=lambda grad, out: grad * out)`."""
    _enter(name, signature, "work", formulas)


def elementwise(name: str, signature: str, **formulas: Formula | None) -> None:
    """The same for one that works element by element, with broadcasting."""
    _enter(name, signature, "elementwise", formulas)


def move(name: str, signature: str, **formulas: Formula | None) -> None:
    """The same for one that only moves elements."""
    _enter(name, signature, "move", formulas)


def constant(signature: str, *names: str, kind: Kind = "work", random: bool = False) -> None:
    """Operations whose derivative is zero: comparisons, rounding, factories; `random` ones are never run twice."""
    for name in names:
        RULES[name] = Rule(name, _signature(signature), {}, {}, kind, random)


def only_in_formulas(signature: str, *names: str) -> None:
    """Operations that formulas use and that `derive` does not differentiate."""
    for name in names:
        RULES[name] = Rule(name, _signature(signature), {}, {}, "move", differentiable=False)


def _enter(name: str, signature: str, kind: Kind, formulas: Mapping[str, Formula | None]) -> None:
    wants = {target: tuple(inspect.signature(f).parameters) for target, f in formulas.items() if f is not None}
    RULES[name] = Rule(name, _signature(signature), formulas, wants, kind)


def _signature(text: str) -> inspect.Signature:
    return inspect.signature(eval(f"lambda {text}: None"))
