"""Values to call a Function with: random ones, fresh copies, other dtypes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from gradsmith.check.case import copy_arguments
from gradsmith.check.tree import is_float, leaves, map_tensors, tree_map

Tensors = tuple[torch.Tensor | None, ...]


def spread_like(tensor: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Values of either sign and of size 0.5 to 1.5, in few decimals, of `tensor`'s shape and dtype."""

    def draw() -> torch.Tensor:
        size = torch.randint(500, 1500, tensor.shape, generator=generator) / 1000
        sign = torch.randint(0, 2, tensor.shape, generator=generator) * 2 - 1
        return (size * sign).to(torch.float64)

    if tensor.is_complex():
        return torch.complex(draw(), draw()).to(dtype=tensor.dtype, device=tensor.device)
    return draw().to(dtype=tensor.dtype, device=tensor.device)


Arrange = Callable[[torch.Tensor], torch.Tensor]


def moved(
    inputs: Sequence[Any], positions: Sequence[int], change: Callable[[int, torch.Tensor], torch.Tensor]
) -> tuple[Any, ...]:
    """The inputs, those at `positions` changed."""
    return tuple(change(i, x.detach()) if i in positions else x for i, x in enumerate(inputs))


def fresh(
    inputs: tuple[Any, ...], needs: Sequence[bool], arrange: Mapping[int, Arrange] | None = None
) -> tuple[Tensors, tuple[Any, ...]]:
    """Leaves for the inputs that need a gradient, and the arguments to call with.

    The arguments are copies of the leaves, not the leaves, so that a Function may write in place. `arrange`
    maps a position to what lays that argument out anew, or every tensor in it: same values, other strides.
    """
    arrange = arrange or {}
    starts: list[torch.Tensor | None] = []
    given: list[Any] = []
    for position, (value, need) in enumerate(zip(inputs, needs, strict=True)):
        lay_out = arrange.get(position, torch.clone)
        if need and isinstance(value, torch.Tensor):
            leaf = value.detach().clone().requires_grad_()
            starts.append(leaf)
            given.append(lay_out(leaf))
        elif isinstance(value, torch.Tensor):
            starts.append(None)
            given.append(lay_out(value.detach()))
        else:
            starts.append(None)
            copied = copy_arguments(value)
            given.append(map_tensors(arrange[position], copied) if position in arrange else copied)
    return tuple(starts), tuple(given)


def to_dtype(inputs: tuple[Any, ...], dtype: torch.dtype) -> tuple[Any, ...]:
    """`inputs` with every floating tensor in `dtype` (complex ones in the complex dtype that belongs to
    it)."""

    def convert(value: Any) -> Any:
        if not is_float(value):
            return value
        target = dtype.to_complex() if value.is_complex() else dtype
        return value.detach().to(target) if value.dtype != target else value.detach()

    return tuple(tree_map(convert, value) for value in inputs)


def single_of(tensor: torch.Tensor) -> torch.dtype:
    return torch.complex64 if tensor.is_complex() else torch.float32


def working_dtype(inputs: tuple[Any, ...]) -> torch.dtype:
    """The coarsest real dtype among the floating inputs: what precision can be hoped for."""
    dtypes = [leaf.dtype.to_real() for leaf in leaves(inputs) if is_float(leaf)]
    return max(dtypes, key=lambda dtype: torch.finfo(dtype).eps, default=torch.float64)
