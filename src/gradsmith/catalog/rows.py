"""What the ops over rows share: rows in pieces that fit a cache, and when whole tensors are right."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from gradsmith.define._private import transformed

_PIECE = 2**19
_FEWEST_ROWS = 128

Block = tuple[slice, ...]  # an index


def watched() -> bool:
    """Whether what is computed now may be differentiated, batched or traced.

    Then whole tensors are right, and nothing may be overwritten.
    """
    return torch.is_grad_enabled() or transformed()


def pieces(rows: int, columns: int) -> Iterator[slice]:
    """Slices of rows, each so large that a handful of them fit a cache.

    In smaller ones the start of the many operations takes longer than the cache saves; and where a sum over rows is
    kept of each, fewer rows would make those sums a large tensor.
    """
    step = max(_FEWEST_ROWS, _PIECE // max(1, columns))
    for start in range(0, rows, step):
        yield slice(start, min(rows, start + step))


def blocks(shape: Sequence[int], times: float = 1) -> Iterator[Block]:
    """Indices that take a tensor of this shape apart, each about as large as a cache; an element stands for `times`.

    They are for tensors of any strides, expanded ones too: no dimension is merged with another.
    """
    if not shape or torch.Size(shape).numel() * times <= _PIECE:
        yield ()
        return
    inner = torch.Size(shape[1:]).numel() * times
    if inner > _PIECE:
        for index in range(shape[0]):
            for rest in blocks(shape[1:], times):
                yield (slice(index, index + 1), *rest)
    else:
        step = int(_PIECE / inner)
        for start in range(0, shape[0], step):
            yield (slice(start, start + step),)


def as_rows(tensor: Tensor, columns: int) -> Tensor:
    """All but the last dimensions, of `columns` elements in all, as one; a copy only where strides force one."""
    return tensor.reshape(tensor.numel() // columns if columns else 0, columns)


def parameter(values: Tensor | None, otherwise: float, shape: Sequence[int], input: Tensor) -> Tensor:
    """A weight or bias of a norm in float32 or more, dense: aten reads some without looking at their strides.

    Beside a bfloat16 input, aten on the CPU then takes and keeps the statistics in float32 as well.
    """
    wide = accumulation(input.dtype)
    if values is None:
        return torch.full(tuple(shape), otherwise, dtype=wide, device=input.device)
    return values.to(wide).contiguous()


def accumulation(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which sums and exponentials of `dtype` are taken: float32 at least."""
    return torch.promote_types(dtype, torch.float32)
