"""Operations that move elements about: views, indexing, joining and splitting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gradsmith.derive.errors import Unsupported
from gradsmith.derive.rules.shaping import fit, sizes
from gradsmith.derive.rules.table import constant, move, only_in_formulas
from gradsmith.derive.scalars import plain

# another shape, the same elements
for _name in ("view", "reshape"):
    move(_name, "input, *shape", input=lambda grad, input: grad.reshape(input.shape))
move("flatten", "input, start_dim=0, end_dim=-1", input=lambda grad, input: grad.reshape(input.shape))
move("unflatten", "input, dim, sizes", input=lambda grad, input: grad.reshape(input.shape))
move("transpose", "input, dim0, dim1", input=lambda grad, dim0, dim1: grad.transpose(dim0, dim1))
move("permute", "input, *dims", input=lambda grad, dims: grad.permute(_inverse(dims)))
move("movedim", "input, source, destination", input=lambda grad, source, destination: grad.movedim(destination, source))
move("mT", "input", input=lambda grad: grad.mT)
move("T", "input", input=lambda grad: grad.T)
move("unsqueeze", "input, dim", input=lambda grad, dim: grad.squeeze(dim))
move(
    "squeeze",
    "input, dim=None",
    input=lambda grad, input, dim: grad.reshape(input.shape) if _several(dim) else _unsqueezed(grad, input, dim),
)
move("expand", "input, *size", input=lambda grad, input: fit(grad, input))
move("expand_as", "input, other", input=lambda grad, input: fit(grad, input), other=None)
move("broadcast_to", "input, size", input=lambda grad, input: fit(grad, input))
move("flip", "input, *dims", input=lambda grad, dims: grad.flip(dims))
move("roll", "input, shifts, dims", input=lambda grad, shifts, dims: grad.roll(_negative(shifts), dims))
move("tril", "input, diagonal=0", input=lambda grad, diagonal: grad.tril(diagonal))
move("triu", "input, diagonal=0", input=lambda grad, diagonal: grad.triu(diagonal))

# parts
move("getitem", "input, index", input=lambda grad, input, index: _put_back(grad, input, index))
move(
    "select",
    "input, dim, index",
    input=lambda grad, input, dim, index: grad.new_zeros(input.shape).select_scatter(grad, dim, index),
)
move(
    "narrow",
    "input, dim, start, length",
    input=lambda grad, input, dim, start, length: grad.new_zeros(input.shape).slice_scatter(
        grad, dim, start, start + length
    ),
)
move(
    "gather",
    "input, dim, index",
    input=lambda grad, input, dim, index: grad.new_zeros(input.shape).scatter_add(dim, index, grad),
)
move(
    "take_along_dim",
    "input, indices, dim",
    input=lambda grad, input, indices, dim: grad.new_zeros(input.shape).scatter_add(dim, indices, grad),
)
move(
    "index_select",
    "input, dim, index",
    input=lambda grad, input, dim, index: grad.new_zeros(input.shape).index_add(dim, index, grad),
)

# joining and splitting
move("cat", "tensors, dim=0", tensors=lambda grad, tensors, dim: grad.split([t.shape[dim] for t in tensors], dim))
move("stack", "tensors, dim=0", tensors=lambda grad, dim: grad.unbind(dim))
move("unbind", "input, dim=0", input=lambda grad, out, dim: torch.stack(_filled(grad, out), dim))
for _name, _signature in (("chunk", "input, chunks, dim=0"), ("split", "input, split_size, dim=0")):
    move(_name, _signature, input=lambda grad, out, dim: torch.cat(_filled(grad, out), dim))
move("output", "input, index")  # one of several outputs; its gradient is gathered where they were computed

# derivative zero
constant("input, dtype=None, device=None", "zeros_like", "ones_like", kind="move")
constant("input, fill_value, dtype=None, device=None", "full_like", kind="move")
constant("*size, dtype=None, device=None", "zeros", "ones", kind="move")
constant("size, fill_value, dtype=None, device=None", "full", kind="move")
constant("start, end=None, step=1, *, dtype=None, device=None", "arange", kind="move")
constant("start, end, steps, *, dtype=None, device=None", "linspace", kind="move")
constant("n, m=None, *, dtype=None, device=None", "eye", kind="move")
constant("data, dtype=None, device=None", "tensor", "scalar_tensor", kind="move")
constant("input, *size, dtype=None, device=None", "new_zeros", "new_ones", kind="move")
constant("input, size, fill_value, dtype=None, device=None", "new_full", kind="move")
constant("input, num_classes=-1", "one_hot", kind="move")
constant("input, dtype=None, device=None", "rand_like", "randn_like", kind="move", random=True)
constant("*size, dtype=None, device=None", "rand", "randn", kind="move", random=True)
constant("input", "bernoulli", kind="move", random=True)

only_in_formulas("input, dim, index, src", "scatter", "scatter_add")
only_in_formulas("input, dim, index, source", "index_add")
only_in_formulas("input, indices, values, accumulate=False", "index_put")
only_in_formulas("input, src, dim=0, start=None, end=None, step=1", "slice_scatter")
only_in_formulas("input, src, dim, index", "select_scatter")


def _several(dim: Any) -> bool:
    return dim is None or isinstance(dim, (tuple, list))


def _unsqueezed(grad: Tensor, input: Tensor, dim: int) -> Tensor:
    return grad.unsqueeze(dim) if sizes(input)[dim] == 1 else grad


def _negative(shifts: Any) -> Any:
    return tuple(-shift for shift in shifts) if isinstance(shifts, (tuple, list)) else -shifts


def _inverse(dims: Sequence[int]) -> tuple[int, ...]:
    """The permutation that undoes one, counted from the end where that one is."""
    order = [int(d) % len(dims) for d in dims]
    inverse = [order.index(d) for d in range(len(dims))]
    return tuple(d - len(dims) for d in inverse) if all(d < 0 for d in dims) else tuple(inverse)


def _filled(grads: Sequence[Tensor | None], outs: Sequence[Tensor]) -> list[Tensor]:
    """One gradient for each of several outputs, zeros for those that are not used."""
    return [torch.zeros_like(out) if grad is None else grad for grad, out in zip(grads, outs, strict=True)]


def _put_back(grad: Tensor, input: Tensor, index: Any) -> Tensor:
    """The gradient of `input[index]`: zeros with `grad` at the index."""
    entries = list(index) if isinstance(index, tuple) else [index]
    if any(isinstance(entry, (Tensor, list)) for entry in entries):
        if not all(isinstance(entry, Tensor) for entry in entries):
            raise Unsupported("for an index that mixes tensors with slices or numbers; index in two steps")
        return grad.new_zeros(input.shape).index_put(tuple(entries), grad, accumulate=True)
    if Ellipsis in entries:
        at = entries.index(Ellipsis)
        named = sum(entry is not None for entry in entries) - 1
        entries[at : at + 1] = [slice(None)] * (input.dim() - named)
    return _put(grad, list(input.shape), entries, input.dim())


def _put(grad: Tensor, shape: list[Any], entries: list[Any], rank: int) -> Tensor:
    """`grad` in zeros of `shape`, where `entries` are numbers, slices and None, one step at a time from the last.

    Dimensions are counted from the end, so that a leading batch dimension changes nothing.
    """
    steps: list[tuple[int, Any, list[Any]]] = []  # dimension, entry, the shape before it
    dim, current = 0, list(shape)
    for entry in entries:
        if entry is None:
            steps.append((dim, None, list(current)))
            current.insert(dim, 1)
            dim += 1
        elif isinstance(entry, slice):
            if entry != slice(None):
                steps.append((dim, entry, list(current)))
                current[dim] = len(range(plain(current[dim]))[entry])
            dim += 1
        else:
            steps.append((dim, entry, list(current)))
            del current[dim]
    for at, entry, before in reversed(steps):
        if entry is None:
            grad = grad.squeeze(at - grad.dim())
        elif isinstance(entry, slice):
            zeros = grad.new_zeros(_with_sizes_of(grad, before, at))
            grad = zeros.slice_scatter(grad, at - len(before), entry.start, entry.stop, entry.step or 1)
        else:
            zeros = grad.new_zeros(before)
            grad = zeros.select_scatter(grad, at - len(before), entry)
    return grad


def _with_sizes_of(grad: Tensor, shape: list[Any], at: int) -> list[Any]:
    return [size if d == at else grad.shape[d] for d, size in enumerate(shape)]
