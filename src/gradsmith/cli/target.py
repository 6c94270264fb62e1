"""What a TARGET on the command line means: a script, a notebook, a directory, a module, or one name in a module."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import math
import os
import pkgutil
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gradsmith.cli.problem import Problem, describe
from gradsmith.cli.program import Program, module, notebook, script

NAMES = {"torch": torch, "math": math, "np": np, "numpy": np}  # what --inputs and --kwargs may use
NOTEBOOK = ".ipynb"
_OTHERS = {
    "__pycache__",
    "node_modules",
    "site-packages",
    "build",
    "dist",
}  # directories without scripts of the user's
_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def is_name(target: str) -> bool:
    """Whether TARGET is `package.module:Name`."""
    where, colon, name = target.partition(":")
    return bool(colon) and not Path(target).exists() and bool(_DOTTED.fullmatch(where) and _DOTTED.fullmatch(name))


def programs(target: str) -> list[Program]:
    """The programs of a script, a notebook, a directory or a module, in alphabetical order.

    Raises:
        Problem: there is no such thing.
    """
    path = Path(target)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix in (".py", NOTEBOOK) and file.is_file())
        found = [_program(file) for file in files if _is_users(file.relative_to(path))]
        if not found:
            raise Problem(f"{target} contains no Python file")
        return found
    if path.is_file():
        return [notebook(path) if path.suffix == NOTEBOOK else script(path)]
    if path.suffix in (".py", NOTEBOOK) or os.sep in target or not _DOTTED.fullmatch(target):
        raise Problem(f"{target} cannot be read: there is no such file")
    return _modules(target)


def _modules(name: str) -> list[Program]:
    """`name` itself, or the `__main__` of a package, or every module in a package that has none."""
    with _import_from_here():
        try:
            spec = importlib.util.find_spec(name)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # Finding a module imports its parents, which may raise anything.
            raise Problem(f"module {name} cannot be imported: {describe(error)}") from error
        if spec is None:
            raise Problem(f"{name} is neither a file nor a module that can be imported")
        if spec.submodule_search_locations is None:
            return [module(name)]
        inside = pkgutil.walk_packages(spec.submodule_search_locations, f"{name}.", onerror=lambda _: None)
        found = sorted(entry.name for entry in inside if not entry.ispkg)
    main = f"{name}.__main__"
    return [module(main)] if main in found else [module(entry) for entry in found] or [module(f"{name}.__init__")]


def load(target: str) -> Callable[..., Any]:
    """The object that `package.module:Name` names.

    Raises:
        Problem: the module does not import, has no such name, or what it names cannot be called.
    """
    where, _, name = target.partition(":")
    with _import_from_here():
        try:
            value: Any = importlib.import_module(where)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # The isolation boundary: a module may raise anything, `SystemExit` included.
            raise Problem(f"module {where} cannot be imported: {describe(error)}") from error
    for part in name.split("."):
        if not hasattr(value, part):
            raise Problem(f"{target}: {where} has no {name!r}{_suggestion(part, value)}")
        value = getattr(value, part)
    if not callable(value):
        raise Problem(f"{target} is a {type(value).__name__}, not a Function, an op, a module or another callable")
    return value  # type: ignore[no-any-return]


def evaluate_inputs(text: str) -> tuple[Any, ...]:
    """The positional arguments that `--inputs` describes: `"torch.randn(4, 3), 2.0"`.

    Raises:
        Problem: the text is no expression, or evaluating it raises.
    """
    value = _evaluate("--inputs", text, text)
    return value if isinstance(value, tuple) else (value,)


def evaluate_kwargs(text: str) -> dict[str, Any]:
    """The keyword arguments that `--kwargs` describes: `"bias=None, eps=1e-5"`."""
    value: dict[str, Any] = _evaluate("--kwargs", text, f"dict({text})")
    return value


def _evaluate(option: str, text: str, expression: str) -> Any:
    try:
        return eval(expression, dict(NAMES))
    except Exception as error:  # The isolation boundary: the expression is the user's and may raise anything.
        names = ", ".join(NAMES)
        raise Problem(f"{option} {text!r} cannot be evaluated: {describe(error)} (it may use {names})") from error


def _program(file: Path) -> Program:
    """A file inside a package runs as a module of it, so that its relative imports work."""
    if file.suffix == NOTEBOOK:
        return notebook(file)
    parents = []
    root = file.absolute().parent
    while (root / "__init__.py").exists():
        parents.append(root.name)
        root = root.parent
    if not parents:
        return script(file)
    return module(".".join([*reversed(parents), file.stem]), str(root))


def _is_users(file: Path) -> bool:
    return not any(part in _OTHERS or part.startswith(".") for part in file.parts)


def _suggestion(name: str, owner: object) -> str:
    close = difflib.get_close_matches(name, dir(owner), n=1)
    return f"; did you mean {close[0]}?" if close else ""


@contextmanager
def _import_from_here() -> Iterator[None]:
    """This directory first on sys.path, as under `python -m`."""
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)
