"""Saved tensors in fewer bytes: booleans as bits, without loss, and activations in 8 bits, with a stated error."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any
from weakref import ReferenceType, ref

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

# Eight booleans are the eight bytes of one int64. The product moves the low bit of each into the top byte.
_GATHER = 0x0102040810204080
_BLOCK = 64
_SMALLEST = 1024


def pack_bits(mask: Tensor) -> Tensor:
    """A boolean tensor of any shape as bits: a uint8 tensor with ⌈n/8⌉ elements. Undone by `unpack_bits`.

    Raises TypeError where `mask` is not boolean.

    >>> mask = torch.tensor([True, False, True, True, False])
    >>> pack_bits(mask).numel(), unpack_bits(pack_bits(mask), mask.shape).tolist() == mask.tolist()
    (1, True)
    """
    if mask.dtype != torch.bool:
        raise TypeError(f"pack_bits: mask must be boolean, got {mask.dtype}; compare first, as in `mask != 0`")
    flat = mask.reshape(-1)
    missing = -flat.numel() % 8
    if missing:
        flat = torch.cat([flat, flat.new_zeros(missing)])
    return _byte_of(flat.view(torch.int64))


def unpack_bits(bits: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The boolean tensor of this shape that `pack_bits` packed.

    Raises ValueError where `bits` is not the result of packing that many booleans.
    """
    count = prod(shape)
    if bits.dtype != torch.uint8 or bits.shape != (-(-count // 8),):
        raise ValueError(
            f"unpack_bits: bits must be uint8 of shape ({-(-count // 8)},) for a mask of shape {tuple(shape)}, "
            f"got {bits.dtype} of shape {tuple(bits.shape)}"
        )
    bools = _eight_bools(bits.device).index_select(0, bits.int()).view(torch.bool)
    return bools[:count].reshape(shape)


def _byte_of(eight: Tensor) -> Tensor:
    return (eight * _GATHER).bitwise_right_shift(56).to(torch.uint8)


@lru_cache(maxsize=16)
def _eight_bools(device: torch.device) -> Tensor:
    """For each byte the int64 that holds its booleans, made with `_byte_of` itself, so that any byte order will do."""
    with torch.inference_mode(False), torch.no_grad():
        places = torch.arange(8, device=device)
        every = ((torch.arange(256, device=device).unsqueeze(1) >> places) & 1).bool().reshape(-1).view(torch.int64)
        table = torch.empty_like(every)
        table[_byte_of(every).long()] = every
    return table


@dataclass(frozen=True)
class Eighths:
    """A floating-point tensor in 8 bits an element: `codes * scale`, with a scale for every 64 elements."""

    codes: Tensor  # (blocks, 64) int8
    scale: Tensor  # (blocks, 1) of the tensor's dtype, float32 for half precision
    shape: torch.Size
    dtype: torch.dtype


def quantize(x: Tensor) -> Eighths:
    """Round a tensor to 8 bits: a quarter of the bytes of float32, and 1/16 for the scales (of 64 elements, one).

    Each block of 64 elements is a multiple from -127 to 127 of its largest absolute value m, over 127. So

        |x - dequantize(quantize(x))| ≤ m / 254

    for each element, up to rounding in its own dtype: 0.4 % of the largest of its block. A block with an infinity or
    NaN in it cannot be rounded and comes back as NaN.

    Source: block-wise quantization, https://arxiv.org/abs/2110.02861, section 2.

    Raises TypeError where x is not floating-point.
    """
    if not x.is_floating_point():
        raise TypeError(f"quantize: x must be floating-point, got {x.dtype}; booleans go to pack_bits")
    flat = x.reshape(-1)
    blocks = torch.nn.functional.pad(flat, (0, -flat.numel() % _BLOCK)).view(-1, _BLOCK)
    blocks = blocks.to(torch.promote_types(x.dtype, torch.float32))
    largest = torch.linalg.vector_norm(blocks, float("inf"), 1, keepdim=True)
    codes = torch.round(blocks * (127 / torch.where(largest > 0, largest, 1))).to(torch.int8)
    return Eighths(codes, largest / 127, x.shape, x.dtype)


def dequantize(x: Eighths) -> Tensor:
    """The tensor that `quantize` rounded, in its shape and dtype."""
    return (x.codes * x.scale).view(-1)[: x.shape.numel()].view(x.shape).to(x.dtype)


def compress_saves(*, activations: bool = False) -> AbstractContextManager[Any]:
    """Within this context, what any op saves for its backward is compressed: gradsmith's and torch's alike.

    Boolean masks are kept as bits: an eighth of the bytes, and the same gradients to the last bit. With
    `activations=True`, floating-point tensors that are no leaves (inputs and parameters are alive anyway) are kept in
    8 bits, as `quantize` says, and the gradients are no longer exact: a saved value of a block whose largest is m is
    off by up to m/254. A gradient that is linear in what was saved, as that of a matrix product, is off by that share;
    others (the gradient of exp is its output) likewise, to first order. Measured on a transformer's layers: 1 % of the
    gradient's norm, as in the tests. Tensors with less than 1024 elements are kept as they are.

    A tensor that several ops save is compressed once. What stays alive for other reasons gains nothing.

    >>> import torch.nn.functional as F
    >>> x = torch.randn(64, 64, requires_grad=True)
    >>> with compress_saves():
    ...     y = torch.where(x > 0, x, 0.1 * x)
    """
    once = _Once()
    return torch.autograd.graph.saved_tensors_hooks(lambda x: once.pack(x, activations), _unpack)


@dataclass(frozen=True)
class _Bits:
    bits: Tensor
    shape: torch.Size


class _Once:
    """Compresses a tensor that is still alive, and was not written to, only the first time."""

    def __init__(self) -> None:
        self._known: Any = WeakTensorKeyDictionary()

    def pack(self, x: Tensor, activations: bool) -> Any:
        how = _way(x, activations)
        if how is None:
            return x
        version, earlier = self._known.get(x, (None, _nothing))
        packed = earlier() if version == _version(x) else None
        if packed is None:
            packed = how(x)
            self._known[x] = (_version(x), ref(packed))
        return packed


def _nothing() -> ReferenceType[Any] | None:
    return None


def _version(x: Tensor) -> int:
    from gradsmith.define._private import version

    return version(x)


def _way(x: Tensor, activations: bool) -> Callable[[Tensor], Any] | None:
    if x.layout != torch.strided or x.numel() < _SMALLEST:
        return None
    if x.dtype == torch.bool:
        return lambda mask: _Bits(pack_bits(mask), mask.shape)
    return quantize if activations and x.is_floating_point() and not x.is_leaf else None


def _unpack(packed: Any) -> Tensor:
    if isinstance(packed, _Bits):
        return unpack_bits(packed.bits, packed.shape)
    return dequantize(packed) if isinstance(packed, Eighths) else packed
