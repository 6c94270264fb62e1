"""The same values in other memory layouts.

Where elements share memory (`SHARED`), not all values fit: the layout then keeps those of the elements that come first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

Layout = Callable[[torch.Tensor], torch.Tensor]


def transposed(tensor: torch.Tensor) -> torch.Tensor:
    """Stored column by column."""
    if tensor.dim() < 2:
        return strided(tensor)
    return tensor.transpose(-1, -2).clone(memory_format=torch.contiguous_format).transpose(-1, -2)


def strided(tensor: torch.Tensor) -> torch.Tensor:
    """Every second element of a larger tensor."""
    return torch.stack([tensor, torch.full_like(tensor, 7)], -1)[..., 0]


def offset(tensor: torch.Tensor) -> torch.Tensor:
    """Contiguous, but not at the start of its storage."""
    return torch.cat([torch.full_like(tensor.reshape(-1)[:1], 7), tensor.reshape(-1)])[1:].reshape(tensor.shape)


def channels_last(tensor: torch.Tensor) -> torch.Tensor:
    """Images (and volumes) stored pixel by pixel, as convolutions like them; others as they are."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    return tensor.clone(memory_format=formats.get(tensor.dim(), torch.preserve_format))


def broadcast(tensor: torch.Tensor) -> torch.Tensor:
    """Along its first dimension that is larger than 1 stored once, as `expand` gives it."""
    dim = next((dim for dim, size in enumerate(tensor.shape) if size > 1), None)
    return tensor if dim is None else _Shared.apply(tensor, tensor.detach().narrow(dim, 0, 1))  # type: ignore[no-untyped-call]


def overlapping(tensor: torch.Tensor) -> torch.Tensor:
    """The windows of a signal, as `unfold` gives them: each row is the one before, moved by one element."""
    if tensor.dim() < 2 or min(tensor.shape[-2:]) < 2:
        return tensor
    signal = torch.cat([tensor.detach()[..., 0, :], tensor.detach()[..., 1:, -1]], -1)
    return _Shared.apply(tensor, signal)  # type: ignore[no-any-return, no-untyped-call]


class _Shared(torch.autograd.Function):
    """Every element of a tensor, from memory that holds fewer; each with a gradient of its own."""

    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        # At the start of a storage as large as the tensor: code that trusts its size reads no one else's memory.
        whole = torch.full_like(tensor, 7, memory_format=torch.contiguous_format).reshape(-1)
        stored = whole[: kept.numel()].view(kept.shape).copy_(kept)
        if kept.dim() == tensor.dim():
            return stored.expand(tensor.shape)
        return stored.unfold(-1, tensor.shape[-1], 1)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        return grad, None


LAYOUTS: dict[str, Layout] = {"transposed": transposed, "strided": strided, "offset": offset}
SHARED: dict[str, Layout] = {"broadcast": broadcast, "overlapping": overlapping}


def layouts_of(tensors: Iterable[torch.Tensor]) -> dict[str, Layout]:
    """The layouts that make a difference to any of `tensors`."""
    images = any(tensor.dim() in (4, 5) for tensor in tensors)
    return {**LAYOUTS, "channels-last": channels_last} if images else LAYOUTS
