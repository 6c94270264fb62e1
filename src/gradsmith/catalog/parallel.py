"""The blocks of an op side by side, each in one of torch's threads.

An operation of torch's on the CPU begins in all threads and ends when the last of them is done. Many small operations
are many such waits, and each is long where another process has one of the cores. Here the threads part once for all
blocks instead: a block's operations run one after the other in the thread that took it, and their results stay in the
cache of its core.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.overrides import has_torch_function

from gradsmith.catalog import _private

B = TypeVar("B")
R = TypeVar("R")

# Each operation needs Python's lock for some microseconds, and takes some hundred for a block: more threads would wait
# for the lock, and hold more memory.
_MOST_THREADS = 16


def parallel_for(blocks: Iterable[B], body: Callable[[B], R], like: Tensor) -> list[R]:
    """`body` of each block, in the order of the blocks, whichever thread computes it.

    `body` writes to no place that another block reads or writes, and draws no random numbers. Gradients are not
    recorded in it, and autocast is off, as it would be in the other threads. `like` is one of the tensors. The first
    exception of a body is raised when the threads have joined again.
    """
    todo = list(blocks)
    with _without_autocast():
        threads = min(len(todo), torch.get_num_threads(), _MOST_THREADS)
        if threads > 1 and _private.parallel_region is not None and _may_change_thread(like):
            return _Loop(todo, body).run(_private.parallel_region, threads)
        return [body(block) for block in todo]


class _Loop:
    """A loop whose blocks wait for the next thread that is free."""

    def __init__(self, blocks: list[Any], body: Callable[[Any], Any]) -> None:
        self._waiting: SimpleQueue[tuple[int, Any]] = SimpleQueue()
        for numbered in enumerate(blocks):
            self._waiting.put(numbered)
        self._body = body
        self._results: list[Any] = [None] * len(blocks)
        self._failures: list[BaseException] = []
        self._mode = torch.inference_mode if torch.is_inference_mode_enabled() else torch.no_grad

    def run(self, region: Callable[[Callable[[], None], int], None], threads: int) -> list[Any]:
        region(self._in_a_thread, threads)
        if self._failures:
            raise self._failures[0]
        return self._results

    def _in_a_thread(self) -> None:
        try:
            with self._mode():  # each thread has modes of its own
                while not self._failures:
                    index, block = self._waiting.get_nowait()
                    self._results[index] = self._body(block)
        except Empty:
            return
        except BaseException as failure:  # KeyboardInterrupt, too: raised where the loop was called
            self._failures.append(failure)


def _may_change_thread(like: Tensor) -> bool:
    """Whether nobody looks on from this thread alone, and the tensors are torch's own, on the CPU."""
    return like.is_cpu and not has_torch_function((like,)) and not _private.looked_on()


def _without_autocast() -> AbstractContextManager[Any]:
    return torch.autocast("cpu", enabled=False) if torch.is_autocast_enabled("cpu") else nullcontext()


class Widened:
    """Blocks of low precision in another dtype, in memory that each thread uses again for its next block.

    New memory for every block would be a new page from the system every 4 KiB, which takes longer than the copy.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self._dtype = dtype
        self._own = _Memory()

    def __call__(self, *blocks: Tensor) -> tuple[Tensor, ...]:
        """The blocks themselves where they have that dtype; else copies, which the next call overwrites."""
        return tuple(self._widened(place, block) for place, block in enumerate(blocks))

    def _widened(self, place: int, block: Tensor) -> Tensor:
        if block.dtype == self._dtype:
            return block
        memory = self._own.at
        if place not in memory or memory[place].numel() < block.numel():
            memory[place] = torch.empty(block.numel(), dtype=self._dtype, device=block.device)
        return memory[place][: block.numel()].view(block.shape).copy_(block)


class _Memory(threading.local):
    """What a thread has for the block at each place of a call."""

    def __init__(self) -> None:
        self.at: dict[int, Tensor] = {}
