"""One trial: a mutant written to a file, its effect decided, `gs.check` asked, and the two compared."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from benchmarks.mutants.effect import EXPECTED, Effect, effect_of
from benchmarks.mutants.rewrite import Mutation
from benchmarks.mutants.specimen import Specimen

import gradsmith as gs

CAUSES = ("term", "factor", "wrong_where", "repair")  # evidence that says what a structural mistake is


@dataclass(frozen=True)
class Trial:
    """What became of one mutant."""

    number: int
    function: str
    kind: str
    before: str
    after: str
    effect: Effect
    errors: tuple[tuple[str, str | None, str, bool], ...]  # code, argument, message, whether a cause is given
    softer: tuple[str, ...]  # the codes of warnings and notes

    @property
    def changes(self) -> bool:
        return self.effect.changes

    @property
    def found(self) -> bool:
        """An error where the derivative is another; where it is not, as much as there is to say, and no error."""
        if self.changes:
            return bool(self.errors)
        expected = EXPECTED[self.effect.name]
        return not self.errors and (not expected or any(code in expected for code in self.softer))

    @property
    def named(self) -> bool:
        """Whether every argument that is wrong has a finding of the code that its effect calls for."""
        return self.found and all(self._named(argument, effect) for argument, effect in self.effect.of)

    def _named(self, argument: str | None, effect: str) -> bool:
        if not self.changes:
            return True
        return any(
            code in EXPECTED[effect] and argument in (None, about) and (caused or effect != "structure")
            for code, about, _, caused in self.errors
        )


def try_out(number: int, specimen: Specimen, mutation: Mutation, folder: Path) -> Trial:
    """Decide what the mutant does, then ask gradsmith."""
    mutant = load(specimen, mutation, folder / f"{specimen.name.lower()}_{number:04}.py")
    names = argument_names(mutant)
    effect = effect_of(mutant, specimen, names)
    report = gs.check(mutant, specimen.inputs(0))
    errors = tuple(
        (found.code, found.argument, found.message, _has_cause(found.evidence)) for found in report.of("error")
    )
    softer = tuple(found.code for found in report.findings if found.severity != "error")
    return Trial(number, specimen.name, mutation.kind, mutation.before, mutation.after, effect, errors, softer)


def _has_cause(evidence: Mapping[str, Any]) -> bool:
    return any(key in evidence and evidence[key] is not None for key in CAUSES)


def load(specimen: Specimen, mutation: Mutation, path: Path) -> type[torch.autograd.Function]:
    """The mutated class, imported from a file of its own, so that a report can point at its lines."""
    home = inspect.getmodule(specimen.function)
    assert home is not None
    path.write_text(f"from {home.__name__} import *\n\n\n{mutation.source}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    function: type[torch.autograd.Function] = getattr(module, specimen.name)
    return function


def argument_names(function: Any) -> tuple[str, ...]:
    names = list(inspect.signature(function.forward).parameters)
    return tuple(names if "setup_context" in vars(function) else names[1:])
