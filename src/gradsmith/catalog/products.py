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
from gradsmith.native.dispatch import PLAIN

_FEWEST_STEPS = 2**24  # multiplications from which oneDNN's call is worth its cost
_FEWEST_FEATURES = 8  # for narrower matrices MKL has ways of its own
_MOST_FEATURES = 2**14  # longer sums oneDNN divides among threads, and the bits would depend on how many there are


def affine(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """input @ weightᵀ + bias, as `torch.nn.functional.linear`."""
    if _private.onednn_linear is not None and onednn_serves(input, weight, bias):
        return _private.onednn_linear(input, weight, bias, "none", [], "")
    return functional.linear(input, weight, bias)


class Products:
    """One `affine` of matrices after another, of which only the last is needed.

    MKL writes each to the memory of the one before. To oneDNN that memory cannot be given, and copying a large product
    would take longer than new memory: let go of a product before the next.
    """

    def __init__(self) -> None:
        self._memory: Tensor | None = None

    def __call__(self, rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """rows @ weightᵀ + bias, with no more rows than in the first call."""
        if onednn_serves(rows, weight, bias):
            return affine(rows, weight, bias)
        if self._memory is None:
            self._memory = rows.new_empty(len(rows), len(weight))
        out = self._memory[: len(rows)]
        if bias is None:
            return torch.mm(rows, weight.mT, out=out)
        return torch.addmm(bias, rows, weight.mT, out=out)


def onednn_serves(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> bool:
    """Whether oneDNN is the quicker for `affine` of these, and nothing records or looks on at what is computed."""
    if weight.dim() != 2 or input.numel() * len(weight) < _FEWEST_STEPS:
        return False
    outputs, features = weight.shape
    fitting = input.shape[-1] == features and (bias is None or bias.shape == (outputs,))
    wide = min(outputs, features) >= _FEWEST_FEATURES and features <= _MOST_FEATURES and input.numel() > features
    whole = input.is_contiguous() and (weight.is_contiguous() or weight.mT.is_contiguous())
    if not (fitting and wide and whole and all(_plain(x) for x in (input, weight, bias) if x is not None)):
        return False
    return _onednn_is_quicker() and not watched() and not _private.in_a_mode()


def _plain(tensor: Tensor) -> bool:
    return type(tensor) in PLAIN and tensor.is_cpu and tensor.dtype == torch.float32


def _onednn_is_quicker() -> bool:
    return _private.of_amd() and _private.onednn_linear is not None and bool(torch.backends.mkldnn.enabled)
