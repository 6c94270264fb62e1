"""How fast this machine could be at best: the time to move the bytes, and the time to multiply the matrices."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from gradsmith.profile.saved import bytes_of
from gradsmith.profile.timing import Round
from gradsmith.profile.work import Work

# Bytes of a buffer and rows of a matrix: more is scaled up from these, less scaled down, where a call would cost more
# than its work.
_SMALLEST_COPY, _LARGEST_COPY = 2**20, 2**28
_SMALLEST_MATRIX, _LARGEST_MATRIX = 512, 2048


@dataclass(frozen=True)
class Limit:
    """What no implementation can be faster than, on this machine in this run.

    `bytes` counts every argument and upstream gradient read once, every output and gradient written once; `flops` the
    matrix products and convolutions. `memory` and `matmul` are the seconds for these at the rates that a copy between
    buffers in use and a square matrix product reached in the same rounds. `seconds` is the greater.
    """

    bytes: int
    flops: int
    memory: float
    matmul: float

    @property
    def seconds(self) -> float:
        return max(self.memory, self.matmul)

    @property
    def bound(self) -> str:
        return "memory" if self.memory >= self.matmul else "matmul"


class Yardstick:
    """The copy and the matrix product that are timed beside the work, as work of their own."""

    def __init__(self, work: Work) -> None:
        self.bytes, self.flops = traffic(work), flops(work)
        self.copy = _copy(self.bytes, work.device)
        self.product = _product(self.flops, work) if self.flops else None

    @property
    def works(self) -> list[Work]:
        return [self.copy] if self.product is None else [self.copy, self.product]

    def limit(self, rounds: Sequence[Round]) -> Limit:
        """The limit at the rates reached in these rounds."""
        moved = 2 * self.copy.arguments[0].nbytes
        memory = _median(rounds, self.copy) * self.bytes / moved
        if self.product is None:
            return Limit(self.bytes, 0, memory, 0.0)
        done = 2 * self.product.arguments[0].shape[0] ** 3
        return Limit(self.bytes, self.flops, memory, _median(rounds, self.product) * self.flops / done)


def traffic(work: Work) -> int:
    """The bytes that a forward and backward must read or write, whatever the implementation."""
    outputs, gradients = work.run()
    moved = [*work.arguments, *work.parameters, *outputs]
    if work.wanted:
        moved += [*work.upstream_of(outputs).values(), *(g for g in gradients if g is not None)]
    return bytes_of(moved)


def flops(work: Work) -> int:
    """Floating-point operations of the matrix products, attention and convolutions in a forward and backward."""
    with FlopCounterMode(display=False) as counter:
        work.run()
    return int(counter.get_total_flops())


def _copy(size: int, device: torch.device) -> Work:
    count = min(max(size // 2, _SMALLEST_COPY), _LARGEST_COPY) // 4
    source, target = (torch.zeros(count, device=device) for _ in range(2))
    return Work("copy", torch.Tensor.copy_, (target, source))


def _product(operations: int, work: Work) -> Work:
    side = min(_LARGEST_MATRIX, max(_SMALLEST_MATRIX, round((operations / 2) ** (1 / 3))))
    floating: list[Tensor] = [t for t in (*work.arguments, *work.parameters) if t.is_floating_point()]
    dtype = floating[0].dtype if floating else torch.float32
    left, right, out = (torch.zeros(side, side, dtype=dtype, device=work.device) for _ in range(3))
    return Work("matmul", _multiply, (left, right, out))


def _multiply(left: Tensor, right: Tensor, out: Tensor) -> Tensor:
    return torch.mm(left, right, out=out)


def _median(rounds: Sequence[Round], work: Work) -> float:
    return statistics.median(round.samples[work].forward for round in rounds)
