"""Products of float32 matrices on a CPU, by whichever of torch's two libraries is the quicker.

torch multiplies matrices of float32 with MKL, and those of 16 bits with oneDNN. On processors of AMD's oneDNN is the
quicker for float32 as well: by a tenth for large square matrices, by two to four times for a few rows. It adds up some
512 products in a row where MKL adds fewer, so its rounding errors are larger, up to twice as large. It is reached
through an operator that torch.compile uses, which has no derivative, and gives each product new memory.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from gradsmith.catalog import _private
from gradsmith.catalog.rows import watched
from gradsmith.native.dispatch import is_plain

_FEWEST_STEPS = 2**24  # multiplications from which oneDNN's call is worth its cost
_FEWEST_FEATURES = 8  # for narrower matrices MKL has ways of its own
_MOST_FEATURES = 2**14  # longer sums oneDNN divides among threads, and the bits would depend on how many there are


def affine(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """input @ weightᵀ + bias, as `torch.nn.functional.linear`."""
    product = _by_onednn(input, weight, bias)
    return functional.linear(input, weight, bias) if product is None else product


class Products:
    """One `affine` of matrices after another, of which only the last is needed.

    MKL writes each to the memory of the one before. To oneDNN that memory cannot be given, and copying a large product
    would take longer than new memory: let go of a product before the next.
    """

    def __init__(self) -> None:
        self._memory: Tensor | None = None

    def __call__(self, rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """rows @ weightᵀ + bias, with no more rows than in the first call."""
        product = _by_onednn(rows, weight, bias)
        if product is not None:
            return product
        if self._memory is None:
            self._memory = rows.new_empty(len(rows), len(weight))
        out = self._memory[: len(rows)]
        if bias is None:
            return torch.mm(rows, weight.mT, out=out)
        return torch.addmm(bias, rows, weight.mT, out=out)


def _by_onednn(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor | None:
    """Where that is the quicker, and nothing records or looks on at what is computed; else None."""
    product = _private.onednn_linear
    if product is None or not _pays(input, weight) or not _private.of_amd() or not torch.backends.mkldnn.enabled:
        return None
    if not _fits(input, weight, bias) or watched() or _private.in_a_mode():
        return None
    return product(input, weight, bias, "none", [], "")


def _pays(input: Tensor, weight: Tensor) -> bool:
    if weight.dim() != 2 or input.numel() * len(weight) < _FEWEST_STEPS:
        return False
    outputs, features = weight.shape
    return min(outputs, features) >= _FEWEST_FEATURES and features <= _MOST_FEATURES and input.numel() > features


def _fits(input: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    tensors = [tensor for tensor in (input, weight, bias) if tensor is not None]
    if not all(is_plain(tensor) and tensor.dtype == torch.float32 for tensor in tensors):
        return False
    whole = input.is_contiguous() and (weight.is_contiguous() or weight.mT.is_contiguous())
    return whole and input.shape[-1] == weight.shape[1] and (bias is None or bias.shape == weight.shape[:1])
