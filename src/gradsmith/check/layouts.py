"""The same values in other memory layouts."""

from __future__ import annotations

from collections.abc import Callable, Iterable

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


LAYOUTS: dict[str, Layout] = {"transposed": transposed, "strided": strided, "offset": offset}


def layouts_of(tensors: Iterable[torch.Tensor]) -> dict[str, Layout]:
    """The layouts that make a difference to any of `tensors`."""
    images = any(tensor.dim() in (4, 5) for tensor in tensors)
    return {**LAYOUTS, "channels-last": channels_last} if images else LAYOUTS
