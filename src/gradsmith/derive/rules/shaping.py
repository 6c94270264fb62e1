"""Steps that many rules share: undoing a broadcast, a reduction, a choice of dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.overrides import handle_torch_function

from gradsmith.derive.scalars import plain


def sizes(tensor: Tensor) -> tuple[int, ...]:
    """The shape on the example, as plain numbers: to decide by, not to compute with."""
    return tuple(plain(size) for size in tensor.shape)


def reduced_along(like: Tensor, wide: tuple[int, ...]) -> Any:
    """The dimension that `like` was reduced along, as its author named it, if it is repeated just along that one.

    None where there is none such. The tracer answers, which knows how the tensor came about.
    """
    return handle_torch_function(reduced_along, (like,), like, wide)


def fit(grad: Tensor, like: Tensor) -> Tensor:
    """Sum `grad` over the dimensions along which `like` was broadcast to its shape."""
    wide, narrow = sizes(grad), sizes(like)
    if wide == narrow:
        return grad
    if like.dim() == 0:
        return grad.sum()
    if grad.dim() != like.dim():
        return grad.sum_to_size(like.shape)
    named = reduced_along(like, wide)
    if named is not None:
        return grad.sum(named, keepdim=True)
    repeated = [d - len(wide) for d in range(len(wide)) if wide[d] != narrow[d]]
    return grad.sum(repeated[0] if len(repeated) == 1 else tuple(repeated), keepdim=True)


def dims_of(dim: Any, rank: int) -> list[int]:
    """The dimensions that a reduction takes, counted from the front and in order."""
    if dim is None:
        return list(range(rank))
    given = dim if isinstance(dim, (tuple, list)) else (dim,)
    return sorted(int(d) % max(rank, 1) for d in given) if given else list(range(rank))


def restored(reduced: Tensor, input: Tensor, dim: Any, keepdim: bool) -> Tensor:
    """A reduced tensor with its dimensions back, of size 1, so that it broadcasts against `input`."""
    if keepdim or dim is None or input.dim() == 0:
        return reduced
    if not isinstance(dim, (tuple, list)):
        return reduced.unsqueeze(dim)
    dims = dims_of(dim, input.dim())
    from_the_end = all(d < 0 for d in dim)
    for position, d in enumerate(dims):
        remaining = len(dims) - position - 1
        reduced = reduced.unsqueeze(d - (input.dim() - remaining) if from_the_end else d)
    return reduced


def spread(grad: Tensor, input: Tensor, dim: Any, keepdim: bool) -> Tensor:
    """The gradient of a sum: `grad` along every dimension that was summed over."""
    return restored(grad, input, dim, keepdim).expand(input.shape)


def count(input: Tensor, dim: Any) -> Any:
    """How many elements a reduction takes together."""
    if dim is None:
        return input.numel()
    dims: Sequence[Any] = dim if isinstance(dim, (tuple, list)) else (dim,)
    if not dims:
        return input.numel()
    total: Any = None
    for d in dims:
        total = input.shape[d] if total is None else total * input.shape[d]
    return total


def per_element(grad: Tensor, input: Tensor, reduction: str) -> Tensor:
    """The upstream gradient of each element's loss, before the loss was reduced."""
    return grad / input.numel() if reduction == "mean" else grad
