"""What torch.compile is to know of us, told when it is first imported: that takes as long as all of torch besides."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TypeVar
from weakref import ref

from gradsmith.define._private import COMPILER

T = TypeVar("T")
_waiting: list[Callable[[], None]] = []


def when_compiling(owner: T, tell: Callable[[T], None]) -> None:
    """Call `tell(owner)` as soon as the compiler is there: now, or when it is imported, if `owner` still lives."""
    if COMPILER in sys.modules:
        tell(owner)
        return
    if not _waiting:
        sys.meta_path.insert(0, _Import())
    alive = ref(owner)

    def told() -> None:
        there = alive()
        if there is not None:
            tell(there)

    _waiting.append(told)


class _Import(MetaPathFinder):
    """Finds the compiler as the others do, and runs what waits for it after it."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != COMPILER:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def then(module: ModuleType) -> None:
                run(module)
                waiting = _waiting.copy()
                _waiting.clear()
                for told in waiting:
                    told()

            spec.loader.exec_module = then  # type: ignore[method-assign]  # of this loader alone
        return spec
