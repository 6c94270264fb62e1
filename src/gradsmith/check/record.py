"""Recording: every custom Function that a program applies, with the arguments it was given."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from gradsmith.check._private import apply_site, in_transform
from gradsmith.check.case import Case, copy_arguments, declaration
from gradsmith.check.tree import leaves, tensors


@dataclass(eq=False)
class Recording:
    """The cases seen so far, in the order of their first call; `limit` different signatures a Function."""

    limit: int
    cases: list[Case] = field(default_factory=list)
    _seen: dict[Any, set[Any]] = field(default_factory=dict)
    _uncopied: list[str] = field(default_factory=list)
    passed_by: dict[type, None] = field(default_factory=dict)  # the Functions given subclasses of Tensor

    @property
    def problems(self) -> list[str]:
        """Why calls have no case: `"package.module.Name: its arguments cannot be copied: ..."`."""
        plain = {case.function_class for case in self.cases}
        why = "it was called with subclasses of Tensor alone: call it with plain tensors, too"
        return [*self._uncopied, *(f"{_full_name(cls)}: {why}" for cls in self.passed_by if cls not in plain)]

    def see(self, function_class: type[torch.autograd.Function], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if "__gradsmith__" in vars(function_class) and declaration(function_class) is None:
            return  # machinery of an op, which is seen itself
        if not all(type(t) in (torch.Tensor, torch.nn.Parameter) for t in tensors((args, kwargs))):
            self.passed_by[function_class] = None
            return
        name = _full_name(function_class)
        written = getattr(declaration(function_class), "forward", function_class.forward)
        signature = _signature((args, kwargs))
        seen = self._seen.setdefault((name, getattr(written, "__code__", None)), set())
        if signature in seen or len(seen) >= self.limit:
            return
        seen.add(signature)
        try:
            inputs, keywords = copy_arguments((args, kwargs))
            self.cases.append(Case.of(function_class, inputs, keywords))
        except Exception as error:  # The isolation boundary: recording must never disturb the program it watches.
            self._uncopied.append(f"{name}: its arguments cannot be copied: {type(error).__name__}: {error}")


_lock = threading.RLock()
_active: list[Recording] = []  # innermost last; every one of them sees every call


@contextmanager
def record(limit: int = 3, *, recording: Recording | None = None) -> Iterator[Recording]:
    """Fill `.cases` of what is yielded with every Function applied meanwhile, in any thread.

    The program runs as it would without: same results, same random numbers. Calls inside a `torch.func`
    transform or a compiled region pass through unseen.

        with record() as recording:
            model(x).sum().backward()
        for case in recording.cases: ...
    """
    recording = Recording(limit) if recording is None else recording
    with _lock:
        if not _active:
            _install()
        _active.append(recording)
    try:
        yield recording
    finally:
        with _lock:
            _active.remove(recording)
            if not _active:
                _uninstall()


def _install() -> None:
    site: Any = apply_site()
    original = vars(site).get("apply")

    def apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
        if not (torch.compiler.is_compiling() or in_transform() or cls.__module__.startswith("torch.")):
            with _lock:
                for recording in _active:
                    recording.see(cls, args, kwargs)
        if original is not None:
            return original.__get__(None, cls)(*args, **kwargs)
        return super(site, cls).apply(*args, **kwargs)

    _restore.append((site, original))
    site.apply = classmethod(apply)


def _uninstall() -> None:
    site, original = _restore.pop()
    if original is None:
        del site.apply
    else:
        site.apply = original


_restore: list[tuple[Any, Any]] = []


def _full_name(function_class: type) -> str:
    return f"{function_class.__module__}.{function_class.__qualname__}"


def _signature(arguments: Any) -> tuple[Any, ...]:
    return tuple(_describe(leaf) for leaf in leaves(arguments))


def _describe(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return tuple(value.shape), value.dtype, value.requires_grad, value.device
    if value is None or isinstance(value, bool | int | float | complex | str):
        return type(value), value
    return type(value)
