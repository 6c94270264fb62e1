"""Run a program unchanged, as Python would run it, while its custom Functions are recorded.

The program is the real `__main__`: guards fire, pickling and `inspect` find its classes, and so on. It stays
`__main__` while it is checked, because its Functions are called again then.
"""

from __future__ import annotations

import importlib.util
import io
import os
import sys
import threading
import types
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import torch

from gradsmith.check.case import declaration
from gradsmith.cli.notebook import DEFINED, cells
from gradsmith.cli.problem import Interrupted, Problem, describe

Loaded = tuple[Iterable[types.CodeType], dict[str, object]]  # what to execute, and the attributes of `__main__`


@dataclass(frozen=True)
class Program:
    """A script, a notebook, or a module as `python -m` runs it. `load` may raise `Problem`."""

    name: str  # as the user calls it
    path: str  # what stands first on sys.path
    load: Callable[[], Loaded]


def script(path: Path) -> Program:
    """The program that `python PATH` runs."""

    def load() -> Loaded:
        try:
            with io.open_code(str(path.absolute())) as file:
                code = compile(file.read(), str(path), "exec")
        except (OSError, SyntaxError, ValueError) as error:
            raise Problem(f"{path} cannot be read: {describe(error)}") from error
        return [code], {"__file__": str(path), "__package__": None, "__spec__": None, "__loader__": None}

    return Program(str(path), str(path.absolute().parent), load)


def notebook(path: Path) -> Program:
    """The program that a notebook is, its cells run in order.

    It is read at once, by the process that also writes the reports. Each cell is compiled when it is its turn: one that
    does not parse lets those before it run.
    """
    try:
        found, problem = cells(path), None
    except Problem as unreadable:
        found, problem = [], unreadable

    def load() -> Loaded:
        if problem is not None:
            raise problem
        attributes = {"__package__": None, "__spec__": None, "__loader__": None, **DEFINED}
        return (cell.compiled() for cell in found), attributes

    return Program(str(path), str(path.absolute().parent), load)


def module(name: str, root: str | None = None) -> Program:
    """The program that `python -m NAME` runs from the directory `root` (this one by default)."""

    def load() -> Loaded:
        try:
            spec = importlib.util.find_spec(name)
            code = spec.loader.get_code(name) if spec and spec.loader else None  # type: ignore[attr-defined]
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # Finding a module imports its parents, which may raise anything.
            raise Problem(f"module {name} cannot be imported: {describe(error)}") from error
        if spec is None or code is None:
            raise Problem(f"module {name} has no Python source to run")
        attributes: dict[str, object] = {
            "__file__": spec.origin,
            "__package__": spec.parent,
            "__spec__": spec,
        }
        return [code], {**attributes, "__loader__": spec.loader}

    return Program(name, root or os.getcwd(), load)


def run(program: Program, arguments: Sequence[str] = ()) -> None:
    """Run `program` to its end, its threads included. Its namespace is `sys.modules["__main__"]` from then on.

    Raises:
        Problem: it cannot be read, it raises, or exits with a status other than 0.
        Interrupted: the user stopped it.
    """
    sys.path.insert(0, program.path)
    codes, attributes = program.load()
    main = types.ModuleType("__main__")
    vars(main).update({"__builtins__": __builtins__, **attributes})
    sys.modules["__main__"] = main
    sys.argv = [str(attributes.get("__file__") or program.name), *arguments]
    before = set(threading.enumerate())
    try:
        with _exits_raise():
            for code in codes:
                exec(code, vars(main))
            for thread in set(threading.enumerate()) - before:
                if not thread.daemon:
                    thread.join()
    except SystemExit as stop:
        if stop.code not in (None, 0):
            how = f" with status {stop.code}" if isinstance(stop.code, int) else f": {stop.code}"
            raise Problem(f"{program.name} exited{how}") from stop
    except KeyboardInterrupt as stop:
        raise Interrupted(f"{program.name} was interrupted") from stop
    except BaseException as error:  # The isolation boundary: the program is anybody's and may raise anything.
        raise Problem(f"{program.name} raised {describe(error)}") from error


def never_called(namespace: Mapping[str, object], called: Collection[type | None]) -> list[str]:
    """The names of the Functions and ops that a program defines at its top and that are not among those `called`.

    A base class counts as called where a class derived from it is.
    """
    found = []
    for name, value in namespace.items():
        function = value if isinstance(value, type) else getattr(value, "Function", None)
        if not (isinstance(function, type) and issubclass(function, torch.autograd.Function)):
            continue
        plan = declaration(function)  # an op is made by the library; what it is made of is the program's
        written = (function,) if plan is None else (plan.forward, *plan.formulas.values())
        if not any(getattr(part, "__module__", None) == "__main__" for part in written):
            continue
        if not any(issubclass(cls, function) for cls in called if cls is not None):
            found.append(name)
    return found


@contextmanager
def process_restored() -> Iterator[None]:
    """Give the process back its `__main__`, arguments and import path, whatever ran inside."""
    main, arguments, path = sys.modules["__main__"], list(sys.argv), list(sys.path)
    try:
        yield
    finally:
        sys.modules["__main__"] = main
        sys.argv[:], sys.path[:] = arguments, path


@contextmanager
def _exits_raise() -> Iterator[None]:
    """Let `os._exit` end the program and not the checker; a forked child still really exits."""
    real, parent = os._exit, os.getpid()

    def leave(status: int) -> NoReturn:
        if os.getpid() != parent:
            real(status)
        raise SystemExit(status)

    os._exit = leave
    try:
        yield
    finally:
        os._exit = real
