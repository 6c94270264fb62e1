"""Another tensor in the place of one that was saved: an input for the output, or the output for an input."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import torch

from gradsmith.check._private import uses_setup_context
from gradsmith.check.case import Case, declaration
from gradsmith.check.diagnosis.rewriting import Rewriting
from gradsmith.check.tree import tensors

MOST = 8  # saved tensors looked at


def resavings(case: Case) -> Iterator[tuple[Rewriting, Case]]:
    """Each replacement, and the case in which it is made: the author's code runs as it is, and its backward is handed
    the other tensor."""
    for line, saved in _saved(case):
        for place, before in list(enumerate(saved))[:MOST]:
            for position, name in enumerate(case.argument_names):
                if isinstance(case.inputs[position], torch.Tensor) and name != before:
                    yield Rewriting(line, before, name), _handing(case, place, position)
            yield Rewriting(line, before, "the output"), _handing(case, place, None)


def _saved(case: Case) -> Iterator[tuple[int, list[str]]]:
    """The line and the arguments of the one `save_for_backward`, where they are written out."""
    cls: Any = case.function_class
    if cls is None or declaration(cls) is not None:
        return
    try:
        lines, first = inspect.getsourcelines(cls.setup_context if uses_setup_context(cls) else cls.forward)
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (OSError, TypeError, SyntaxError):
        return
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    saves = [call for call in calls if ast.unparse(call.func).endswith(".save_for_backward")]
    if len(saves) == 1 and not any(isinstance(argument, ast.Starred) for argument in saves[0].args):
        yield first + saves[0].lineno - 1, [ast.unparse(argument) for argument in saves[0].args]


def _handing(case: Case, place: int, position: int | None) -> Case:
    """The case with the saved tensor at `place` replaced by the argument at `position`, or by the first output."""

    def function(*arguments: Any, **keywords: Any) -> Any:
        returned: list[torch.Tensor] = []
        count = 0

        def pack(tensor: torch.Tensor) -> Callable[[], torch.Tensor]:
            nonlocal count
            count += 1
            if count - 1 != place:
                return lambda: tensor
            return (lambda: returned[0].detach()) if position is None else (lambda: arguments[position].detach())

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda fetch: fetch()):
            out = case.function(*arguments, **keywords)
        returned += tensors(out)
        return out

    return dataclasses.replace(case, function=function)
