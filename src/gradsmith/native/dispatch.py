"""When the native kernels serve: the library, loaded at the first call that it pays for, and the calls it can take."""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gradsmith.define._private import transformed

DTYPES = frozenset({torch.float32, torch.bfloat16, torch.float16})
PLAIN = (Tensor, torch.nn.Parameter)  # no subclass: those have their own ways with an operator

SMALLEST = 2**16
"""The number of elements from which a kernel is used, and built if need be: below, torch ops are as quick."""

_lock = threading.RLock()
_state: Status | None = None  # None: not tried yet
_switched_off = 0


class Status(NamedTuple):
    """Whether the native back end serves, and why not."""

    active: bool
    reason: str


def status() -> Status:
    """Whether the native kernels serve in this process. Builds them if that was not tried yet.

    >>> from gradsmith import native
    >>> native.status().active  # doctest: +SKIP
    True
    """
    global _state
    with _lock:
        if _state is None:
            _state = _load()
        return _state


def kernels(*tensors: Tensor | None) -> Any:
    """The native operators, if they can take these tensors here and now; else None.

    They have no derivative, so they serve where none can be asked of them: inside of a forward or a first-order
    formula, and not while torch.func, forward mode or torch.compile looks on. They take float32, bfloat16 and float16
    on the CPU.
    """
    first = tensors[0]
    if _switched_off or first is None or first.numel() < SMALLEST:
        return None
    watched = torch.is_grad_enabled()
    for tensor in tensors:
        if tensor is not None and not _taken(tensor, watched):
            return None
    if transformed():
        return None
    state = _state or status()
    return torch.ops.gradsmith_native if state.active else None


def _taken(tensor: Tensor, watched: bool) -> bool:
    return is_plain(tensor) and tensor.dtype in DTYPES and not (watched and tensor.requires_grad)


def is_plain(tensor: Tensor) -> bool:
    """Whether it is a tensor of torch's own, on the CPU, that lies there by strides."""
    return type(tensor) in PLAIN and tensor.is_cpu and tensor.layout is torch.strided


@contextmanager
def disabled() -> Iterator[None]:
    """Torch ops alone, in all threads, until the block ends: to compare the back ends."""
    global _switched_off
    with _lock:
        _switched_off += 1
    try:
        yield
    finally:
        with _lock:
            _switched_off -= 1


def _load() -> Status:
    setting = os.environ.get("GRADSMITH_NATIVE", "1")
    if setting not in ("", "0", "1"):
        warnings.warn(f"GRADSMITH_NATIVE={setting!r} is neither 0 nor 1, and is taken for 1", RuntimeWarning, 3)
    if setting == "0":
        return Status(False, "switched off by GRADSMITH_NATIVE=0")
    if not sys.platform.startswith("linux"):
        return Status(False, f"the kernels are built on Linux, and this is {sys.platform}")
    from gradsmith.native import build

    library = build.cached_library()
    missing = None if library.exists() else build.missing_tool()
    if missing is not None:
        return Status(False, missing)
    try:
        torch.ops.load_library(str(build.build()))
    except (build.BuildError, OSError) as error:  # OSError: no place for a cache, or a library that does not load
        warnings.warn(
            f"gradsmith's native kernels are not available, torch ops serve in their place: {error}", RuntimeWarning, 3
        )
        return Status(False, str(error))
    from gradsmith.native import fakes

    fakes.register()
    return Status(True, str(library))
