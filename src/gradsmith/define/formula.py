"""A formula: the gradient of one argument, whose parameter names say what it needs."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from gradsmith.define.errors import DefinitionError

Kind = Literal["upstream", "argument", "output", "residual", "shape", "dtype", "device", "needs", "tangent"]
METADATA: tuple[Kind, ...] = ("shape", "dtype", "device")


@dataclass(frozen=True)
class Need:
    """One thing that a formula asks for: `weight` is Need("argument", "weight"), `w_shape` Need("shape", "w")."""

    kind: Kind
    name: str


@dataclass(frozen=True, eq=False)
class Formula:
    """The gradients of `targets` (one argument, or several that share work), given by `function`."""

    targets: tuple[str, ...]
    function: Callable[..., Any]
    needs: tuple[Need, ...]


@dataclass(frozen=True)
class Vocabulary:
    """The names that a formula of one op may use."""

    op: str
    arguments: tuple[str, ...]
    outputs: tuple[str, ...]  # empty where the only output is called `out`
    residuals: tuple[str, ...]

    @property
    def upstreams(self) -> dict[str, str]:
        """Parameter name -> output name: {"grad": "out"}, or {"grad_values": "values", …} with named outputs."""
        return {f"grad_{name}": name for name in self.outputs} if self.outputs else {"grad": "out"}

    def meaning(self, word: str) -> Need | None:
        """What a parameter name stands for; None where it stands for nothing."""
        if word in self.arguments:
            return Need("argument", word)
        if word in self.upstreams:
            return Need("upstream", self.upstreams[word])
        if word in (self.outputs or ("out",)):
            return Need("output", word)
        if word in self.residuals:
            return Need("residual", word)
        if word == "needs":
            return Need("needs", word)
        for kind in METADATA:
            if word.endswith(f"_{kind}") and word[: -len(kind) - 1] in self.arguments:
                return Need(kind, word[: -len(kind) - 1])
        return None

    def words(self) -> list[str]:
        """What a formula may ask for, as a message lists it."""
        outputs = self.outputs or ("out",)
        return [*self.upstreams, *outputs, *self.arguments, *self.residuals]


def read_formula(targets: Sequence[str], function: Callable[..., Any], words: Vocabulary) -> Formula:
    """Read what `function` needs from its parameter names. Raises DefinitionError for an unknown one."""
    label = f"op {words.op}: the formula for {_listed(targets)}"
    check_targets(targets, words)
    needs = tuple(_meaning(name, words, label, {}) for name in parameter_names(function, label))
    if not any(need.kind == "upstream" for need in needs):
        raise DefinitionError(
            f"{label} does not take the upstream gradient ({', '.join(words.upstreams)}); a gradient that ignores it "
            f"is wrong. If the gradient is zero, write `{targets[0]}=None`."
        )
    return Formula(tuple(targets), function, needs)


def read_jvp(function: Callable[..., Any], words: Vocabulary) -> Formula:
    """Read a forward-mode rule: like a formula, with `tangent_x` for the tangent of `x` in place of `grad`."""
    label = f"op {words.op}: the jvp"
    tangents = {f"tangent_{name}": Need("tangent", name) for name in words.arguments}
    needs = tuple(_meaning(name, words, label, tangents) for name in parameter_names(function, label))
    if any(need.kind in ("upstream", "needs") for need in needs):
        raise DefinitionError(
            f"{label} asks for an upstream gradient; in forward mode there are only {', '.join(tangents)}"
        )
    return Formula((), function, needs)


def check_targets(targets: Sequence[str], words: Vocabulary) -> None:
    """Raise DefinitionError where a formula is written for something that is no argument."""
    for target in targets:
        if target not in words.arguments:
            raise DefinitionError(
                f"op {words.op}: there is no argument `{target}` to give a formula for"
                f"{_suggest(target, words.arguments)}; the forward takes ({', '.join(words.arguments)})"
            )


def parameter_names(function: Callable[..., Any], label: str) -> list[str]:
    """The parameter names of a formula, which must all be plain ones."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (ValueError, TypeError):
        raise DefinitionError(f"{label} must be a Python function with named parameters, got {function!r}") from None
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    if any(p.kind in variadic for p in parameters):
        raise DefinitionError(f"{label} takes *args or **kwargs; name what it needs, since that is what is saved")
    return [p.name for p in parameters if p.kind is not inspect.Parameter.KEYWORD_ONLY]


def _meaning(word: str, words: Vocabulary, label: str, more: dict[str, Need]) -> Need:
    need = more.get(word) or words.meaning(word)
    if need is None:
        allowed = [*more, *words.words()]
        raise DefinitionError(
            f"{label} asks for `{word}`, which is no argument, output or residual of it{_suggest(word, allowed)}; it "
            f"may ask for {', '.join(allowed)}, or for the shape, dtype or device of an argument "
            f"(`{words.arguments[0]}_shape`)"
        )
    return need


def _suggest(word: str, allowed: Collection[str]) -> str:
    close = difflib.get_close_matches(word, list(allowed), n=1)
    return f" (did you mean `{close[0]}`?)" if close else ""


def _listed(names: Sequence[str]) -> str:
    return " and ".join(f"`{name}`" for name in names)
