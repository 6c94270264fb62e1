"""What the benchmarks of ops share: the back end without kernels, the two regimes of memory, and a busy machine."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

import gradsmith as gs
from gradsmith import native
from gradsmith.profile.timing import Round, interleave, trusted
from gradsmith.profile.work import Work

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}

# With the C library's allocator as it is, and with freed memory used again, which speeds up torch as well.
REGIMES: dict[str, Callable[[], AbstractContextManager[Any]]] = {"default": nullcontext, "recycled": gs.reuse_memory}


class TorchOps(Work):
    """The same work without native kernels, in the backward, too."""

    def forward(self) -> list[Tensor]:
        with native.disabled():
            return super().forward()

    def backward(self, outputs: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
        with native.disabled():
            return super().backward(outputs)


def counted(works: Sequence[Work], seconds: float, busy: bool) -> list[Round]:
    """The rounds that count: those that other processes left alone, unless the machine is busy on purpose."""
    rounds = interleave(works, seconds)
    return rounds if busy else trusted(rounds)


@contextmanager
def busy(wanted: bool) -> Iterator[None]:
    """Another process that computes, meanwhile."""
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if wanted else None
    try:
        yield
    finally:
        if other is not None:
            other.kill()
            other.wait()
