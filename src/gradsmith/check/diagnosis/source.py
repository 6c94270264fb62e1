"""A `backward` as a tree that can be rewritten and run: only where it is plain torch, so that no rewriting does harm.

A rewritten call of a kernel, of a file, or of what works in place could write anywhere; a product of tensors cannot.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import textwrap
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gradsmith.check._private import backward_name
from gradsmith.check.case import Case, declaration

HARMLESS = {"abs", "bool", "enumerate", "float", "int", "isinstance", "len", "list", "max", "min", "range", "reversed",
            "sum", "tuple", "zip"}  # fmt: skip
OUT_OF_TORCH = {"save", "load", "numpy", "data_ptr", "ops", "_C", "utils", "distributed", "cuda"}


@dataclass(frozen=True)
class Backward:
    """The author's `backward`: its function and its tree, whose lines are those of the author's file."""

    function: types.FunctionType
    tree: ast.FunctionDef

    @property
    def upstream(self) -> tuple[str, ...]:
        """The parameters after ctx."""
        return tuple(argument.arg for argument in self.tree.args.args[1:])

    def compiled(self) -> Callable[..., Any]:
        """A function of the tree as it is now, with the globals and the closure of the author's."""
        names = self.function.__code__.co_freevars
        module = ast.parse(f"def outer({', '.join(names)}):\n    pass")
        module.body[0].body = [self.tree]  # type: ignore[attr-defined]
        code = compile(ast.fix_missing_locations(module), self.function.__code__.co_filename, "exec")
        for name in ("outer", self.tree.name):
            code = next(c for c in code.co_consts if isinstance(c, types.CodeType) and c.co_name == name)
        cells = dict(zip(names, self.function.__closure__ or (), strict=True))
        closure = tuple(cells[name] for name in code.co_freevars)
        return types.FunctionType(code, self.function.__globals__, code.co_name, self.function.__defaults__, closure)


def backward_of(case: Case) -> Backward | None:
    """The `backward` of a Function; None where it has no source, or calls more than torch's own operations."""
    cls: Any = case.function_class
    if cls is None or declaration(cls) is not None:
        return None
    function = inspect.unwrap(getattr(cls, backward_name(cls)))
    try:
        lines, first = inspect.getsourcelines(function)
        (tree,) = ast.parse(textwrap.dedent("".join(lines))).body
    except (OSError, TypeError, SyntaxError, ValueError):
        return None
    if not isinstance(function, types.FunctionType) or not isinstance(tree, ast.FunctionDef):
        return None
    tree.decorator_list = []
    ast.increment_lineno(tree, first - 1)
    known = {**function.__globals__, **inspect.getclosurevars(function).nonlocals}
    local = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    local |= {argument.arg for argument in tree.args.args}
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    writes = any(isinstance(node, ast.AugAssign) for node in ast.walk(tree))
    return Backward(function, tree) if not writes and all(_plain(call, known, local) for call in calls) else None


def _plain(called: ast.expr, known: dict[str, Any], local: set[str]) -> bool:
    """Whether what is called is an operation of torch, a method of a local tensor, or a harmless builtin."""
    if isinstance(called, ast.Name):
        value = known.get(called.id, getattr(builtins, called.id, None))
        return called.id not in local and (called.id in HARMLESS or _of_torch(value))
    if not isinstance(called, ast.Attribute) or ast.unparse(called.value) == "ctx":
        return False
    if called.attr.endswith("_") or OUT_OF_TORCH & set(ast.unparse(called).split(".")):
        return False
    root: ast.expr = called.value
    while isinstance(root, ast.Attribute | ast.Subscript | ast.Call):
        root = root.func if isinstance(root, ast.Call) else root.value
    if not isinstance(root, ast.Name) or root.id in local:
        return True  # a method of what was computed here
    return _of_torch(known.get(root.id))


def _of_torch(value: Any) -> bool:
    """Whether it is torch's or math's: a module, a function or a class of theirs."""
    name = value.__name__ if isinstance(value, types.ModuleType) else getattr(value, "__module__", None)
    return (name or type(value).__module__).split(".")[0] in ("torch", "math")
