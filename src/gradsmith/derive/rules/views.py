"""Operations that move elements about: views, indexing, joining and splitting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gradsmith.derive.errors import Unsupported
from gradsmith.derive.rules.shaping import fit, sizes
from gradsmith.derive.rules.table import constant, move, only_in_formulas

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
    from_end = entries[0] is Ellipsis
    if Ellipsis in entries:
        at = entries.index(Ellipsis)
        named = sum(entry is not None for entry in entries) - 1
        entries[at : at + 1] = [slice(None)] * (input.dim() - named)
    for step in reversed(_steps(list(input.shape), entries)):
        grad = step.undone(grad, from_end)
    return grad


@dataclass(frozen=True)
class _Step:
    """One entry of an index, applied to what those before it left: at which dimension, and the sizes there.

    A size that an earlier entry changed is None: it is read off the gradient.
    """

    at: int
    entry: Any
    before: list[Any]

    def undone(self, grad: Tensor, from_end: bool) -> Tensor:
        at = self.at
        if self.entry is None:
            return grad.squeeze(at - len(self.before) - 1 if from_end else at)
        is_slice = isinstance(self.entry, slice)
        places = [d if is_slice or d < at else d - 1 for d in range(len(self.before))]
        known = [grad.shape[p] if size is None else size for p, size in zip(places, self.before, strict=True)]
        zeros, dim = grad.new_zeros(known), at - len(self.before) if from_end else at
        if is_slice:
            return zeros.slice_scatter(grad, dim, self.entry.start, self.entry.stop, self.entry.step or 1)
        return zeros.select_scatter(grad, dim, self.entry)


def _steps(shape: list[Any], entries: list[Any]) -> list[_Step]:
    """An index of numbers, slices and None as one step for each."""
    steps: list[_Step] = []
    dim, current = 0, list(shape)
    for entry in entries:
        if entry is None:
            steps.append(_Step(dim, None, list(current)))
            current.insert(dim, 1)
        elif isinstance(entry, slice):
            if entry != slice(None):
                steps.append(_Step(dim, entry, list(current)))
                current[dim] = None
        else:
            steps.append(_Step(dim, entry, list(current)))
            del current[dim]
            continue
        dim += 1
    return steps
