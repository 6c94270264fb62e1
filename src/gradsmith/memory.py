"""Let the C allocator keep and reuse large freed blocks: `reuse_memory()`, or GRADSMITH_REUSE_MEMORY=1.

On Linux glibc asks the kernel for every block over 32 MiB anew and hands it back at once when it is freed. The kernel
fills each fresh page with zeros as it is first written, so a step of training pays for that in every large tensor: a
write to fresh memory takes about three times as long as one to memory that is used again. Two settings of `mallopt`
make the allocator serve such blocks from its heap and keep what is freed there.

This speeds up every tensor of the process, those of plain torch as well, so it is no merit of an op and is never
counted as one. Its price: memory that was freed stays with the process until the setting is undone.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import warnings
from types import TracebackType

# From glibc's malloc.h; musl, macOS and Windows have no mallopt.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_KEEP = 2**31 - 1  # mallopt takes an int, and there is no larger one

# What glibc's own adjustment arrives at once a block of 32 MiB was freed: the most that it ever keeps. Any call of
# mallopt ends that adjustment for good, so this is as near to the untouched state as an undo can come.
_STOCK_MMAP_THRESHOLD = 32 * 2**20
_STOCK_TRIM_THRESHOLD = 2 * _STOCK_MMAP_THRESHOLD

_OTHER_ALLOCATORS = ("jemalloc", "tcmalloc", "mimalloc")

_lock = threading.Lock()
_holders = 0


class MemoryReuse:
    """The setting, for as long as it holds: undo it, or use it as a context manager.

    `active` says whether it has any effect, `reason` why not.
    """

    def __init__(self, reason: str | None) -> None:
        self.reason = reason
        self.active = reason is None

    def undo(self) -> None:
        """Go back to the stock settings and return free memory to the system, once no other holder is left.

        A free block that has something else above it in the heap keeps its place there, without its pages, and may
        serve one of its size again.
        """
        global _holders
        with _lock:
            if not self.active:
                return
            self.active = False
            _holders -= 1
            if _holders == 0:
                _set(_STOCK_MMAP_THRESHOLD, _STOCK_TRIM_THRESHOLD)
                _libc().malloc_trim(0)

    def __enter__(self) -> MemoryReuse:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.undo()

    def __repr__(self) -> str:
        if self.active:
            return "MemoryReuse(active: freed memory stays with the process)"
        return f"MemoryReuse(no effect: {self.reason or 'undone'})"


def reuse_memory() -> MemoryReuse:
    """Make the C allocator keep and reuse large freed blocks, for the whole process and all its threads.

    It takes effect at once and lasts until `undo()`, or to the end of a `with` block. Calls may nest; the settings go
    back when the last of them is undone. The environment variable GRADSMITH_REUSE_MEMORY=1 does the same when
    gradsmith is imported. Up to 2 GiB of free memory at the top of the heap stay with the process.

    Where the C library has no such setting (Windows, macOS, musl), or another allocator is loaded in its place,
    nothing changes: a RuntimeWarning says so, and `active` is False.

    >>> with reuse_memory():  # doctest: +SKIP
    ...     train()
    """
    global _holders
    with _lock:
        reason = unavailable()
        if reason is None and _holders == 0 and not _set(_KEEP, _KEEP):
            reason = "mallopt of this C library refuses the thresholds"
        if reason is None:
            _holders += 1
    if reason is not None:
        warnings.warn(f"reuse_memory has no effect: {reason}", RuntimeWarning, stacklevel=2)
    return MemoryReuse(reason)


def is_reusing_memory() -> bool:
    """Whether the setting holds now."""
    return _holders > 0


def unavailable() -> str | None:
    """Why `reuse_memory` can do nothing here; None where it can."""
    if not sys.platform.startswith("linux"):
        return f"it is for Linux, and this is {sys.platform}"
    if not hasattr(_libc(), "gnu_get_libc_version"):
        return "the C library is not glibc"
    loaded = _other_allocator()
    return f"{loaded} is loaded in place of glibc's allocator" if loaded else None


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def _set(mmap_threshold: int, trim_threshold: int) -> bool:
    mallopt = _libc().mallopt
    results = (mallopt(_M_MMAP_THRESHOLD, mmap_threshold), mallopt(_M_TRIM_THRESHOLD, trim_threshold))
    return all(results)


def _other_allocator() -> str | None:
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
            text = maps.read()
    except OSError:  # without /proc there is no way to tell, and glibc is the rule
        return None
    return next((name for name in _OTHER_ALLOCATORS if f"lib{name}" in text), None)


def _from_environment() -> None:
    value = os.environ.get("GRADSMITH_REUSE_MEMORY", "0")
    if value == "1":
        reuse_memory()
    elif value not in ("", "0"):
        warnings.warn(
            f"GRADSMITH_REUSE_MEMORY={value!r} has no effect: it must be 1 or 0", RuntimeWarning, stacklevel=2
        )


_from_environment()
