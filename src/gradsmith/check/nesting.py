"""How a script calls what takes containers: the leaves `xs[0]`, `xs[1]`, `params['w']` put together again."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from typing import Any

import torch

from gradsmith.check.case import Case, declaration

_STEP = re.compile(r"\[(\d+)\]|\[('[^']*'|\"[^\"]*\")\]|\.(\w+)")
_ROOT = re.compile(r"^[^.\[]+")
_PREFIX: dict[Any, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}

Nested = dict[str, "Nested | str"]  # a step of a path, as it is written, to what is there


def adapter(case: Case, names: Sequence[str], called: str) -> list[str]:
    """Lines that define `function`, which takes the leaves `names` one by one; none where `called` does."""
    plan = declaration(case.function_class)
    if case.function_class is not None and plan is None:
        return []  # torch's own Functions take what they are given
    written = inspect.unwrap(case.function) if plan is None else plan.forward
    owner = getattr(written, "__self__", None)
    module = owner if isinstance(owner, torch.nn.Module) else None
    parameters = [] if module is None else [name for name, _ in module.named_parameters()]
    inside = len(names) - len(parameters)
    given = call_arguments(case.argument_names[:inside], names[:inside], _parameters_of(written))
    if module is not None:
        replaced = ", ".join(f"{key!r}: {name}" for key, name in zip(parameters, names[inside:], strict=True))
        lines = [f"module = ...  # your {case.name}: put it here"]
        call = f"torch.func.functional_call(module, {{{replaced}}}, ({given},), keywords)"
    elif given != ", ".join(names):
        lines, call = [], f"{called}({given}, **keywords)"
    else:
        return []
    simple = ["import types"] if "types." in call else []
    return [*simple, *lines, f"def function({', '.join(names)}, **keywords):", f"    return {call}"]


def call_arguments(paths: Sequence[str], names: Sequence[str], parameters: Sequence[inspect.Parameter] = ()) -> str:
    """The arguments of the call, where the leaf at each path is the variable of that name.

    >>> call_arguments(["xs[0]", "xs[1]", "p['w']", "y"], ["a", "b", "c", "y"])
    "[a, b], {'w': c}, y"
    """
    top: Nested = {}
    for path, name in zip(paths, names, strict=True):
        root = _ROOT.match(path)
        steps = [root.group() if root else path, *(step.group() for step in _STEP.finditer(path))]
        place = top
        for step in steps[:-1]:
            inside = place.setdefault(step, {})
            assert isinstance(inside, dict)
            place = inside
        place[steps[-1]] = name
    prefixes = {parameter.name: _PREFIX.get(parameter.kind, "") for parameter in parameters}
    by_name = {parameter.name for parameter in parameters[len(top) :]} | {
        parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY
    }
    return ", ".join(
        (f"{root}=" if root in by_name and not prefixes[root] else prefixes.get(root, "")) + _written(inside)
        for root, inside in top.items()
    )


def _written(tree: Nested | str) -> str:
    if isinstance(tree, str):
        return tree
    items = [(step, _written(inside)) for step, inside in tree.items()]
    if items[0][0].startswith("."):  # a named tuple or a dataclass, whose class the script does not know
        return f"types.SimpleNamespace({', '.join(f'{step[1:]}={text}' for step, text in items)})"
    if items[0][0][1:-1].isdigit():
        return f"[{', '.join(text for _, text in items)}]"
    return "{" + ", ".join(f"{step[1:-1]}: {text}" for step, text in items) + "}"


def _parameters_of(function: Any) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return []
