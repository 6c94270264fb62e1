"""Dropout whose backward needs a bit an element, or a seed for all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gradsmith.catalog.compress import pack_bits, unpack_bits
from gradsmith.catalog.parallel import parallel_for
from gradsmith.catalog.rows import Block, blocks, watched
from gradsmith.define._private import functorch_active
from gradsmith.define.errors import CallError
from gradsmith.define.keep import keep
from gradsmith.define.op import op
from gradsmith.native import kernels

_MEMORY = ("bits", "seed")
_INTEGERS = {
    torch.float64: torch.int64,
    torch.float32: torch.int32,
    torch.bfloat16: torch.int16,
    torch.float16: torch.int16,
}


def _for_input(
    grad: Tensor, choice: Any, input_shape: torch.Size, input_device: torch.device, p: float, training: bool
) -> Tensor:
    if not training or p == 0:
        return grad
    if p == 1:
        return _drop(grad, _nothing(grad), p)
    if isinstance(choice, _Drawn):
        return choice.drop(grad, p)
    if isinstance(choice, int):
        return _drop(grad, _kept(input_shape, input_device, p, choice), p)
    return _drop(grad, unpack_bits(choice, input_shape), p)


@op(input=_for_input)
def dropout(input: Tensor, p: float = 0.5, training: bool = True, *, memory: str = "bits") -> Any:
    """Zero each element with probability p and divide the others by 1 - p, as `torch.nn.functional.dropout`.

    With m = 1 where an element is kept and 0 where it is not,

        y_i = m_i x_i / (1 - p),        ∂L/∂x_i = g_i m_i / (1 - p)

    so that the mask is all that the gradient needs. torch saves it in the dtype of the input.

    Args:
        input: any shape, any floating-point or complex dtype.
        p: the probability of an element to be zeroed, from 0 to 1.
        training: if False, the result is a copy of the input, whatever p.
        memory: "bits" saves the mask with a bit an element: 1/32 of what torch saves in float32. "seed" saves one
            number, and draws the mask again in the backward: nothing to save, for the time of a second drawing. It is
            refused under torch.compile, and under vmap with randomness="different". Where the native kernel serves, its
            drawing takes less time than to read bits, and either way only the number is saved.

    Returns:
        A tensor of the shape and dtype of input. Under vmap, `randomness` decides, as for any random function of torch.

    Saves: the mask as ⌈n/8⌉ bytes, or with memory="seed" or a native kernel no tensor; a second or a repeated backward
    uses the same mask. The kernel draws another than torch ops do from the same seed of torch. Source: Srivastava et
    al., 2014, https://jmlr.org/papers/v15/srivastava14a.html; the kernel's numbers are those of Philox 4x32-10, Salmon
    et al., 2011, https://doi.org/10.1145/2063384.2063405.

    Raises ValueError for a p that is no probability or an unknown `memory`; CallError where "seed" is refused.

    >>> x = torch.ones(8, requires_grad=True)
    >>> y = dropout(x, 0.25)
    >>> torch.equal(torch.autograd.grad(y.sum(), x)[0], y)
    True
    """
    if not 0 <= p <= 1:
        raise ValueError(f"dropout: p must be a probability, from 0 to 1, got {p}")
    if memory not in _MEMORY:
        raise ValueError(f"dropout: memory must be one of {', '.join(map(repr, _MEMORY))}, got {memory!r}")
    if not training or p == 0:
        return keep(input, choice=None)
    if p == 1:
        return keep(_drop(input, _nothing(input), p), choice=None)
    if kernels(input) is not None:
        drawn = _Drawn(_draw_seed(), tuple(input.shape), _memory_order(input))
        return keep(drawn.drop(input, p), choice=drawn)
    if memory == "seed":
        seed = _draw_seed()
        return keep(_drop(input, _kept(input.shape, input.device, p, seed), p), choice=seed)
    mask = _drawn(input.shape, input.device, p)
    return keep(_drop(input, mask, p), choice=pack_bits(mask))


@dataclass(frozen=True)
class _Drawn:
    """A mask that the native kernel draws, and no one else: whatever the backward runs in, it is asked for it again."""

    seed: int
    shape: tuple[int, ...]
    order: tuple[int, ...] | None  # of the dimensions, in which elements are counted; None: as they stand

    def drop(self, x: Tensor, p: float) -> Tensor:
        native = kernels(x)
        if native is None:
            return _drop(x, self._mask(p), p)
        if self.order is None:
            return native.dropout(x, p, self.seed)  # type: ignore[no-any-return]
        return self._put_back(native.dropout(x.permute(self.order), p, self.seed))

    def _mask(self, p: float) -> Tensor:
        """For what the kernel cannot take: other dtypes, and gradients that are differentiated or batched."""
        order = range(len(self.shape)) if self.order is None else self.order
        ones = torch.ones([self.shape[d] for d in order], dtype=torch.float32, device="cpu")
        return self._put_back(torch.ops.gradsmith_native.dropout(ones, p, self.seed) != 0)

    def _put_back(self, counted: Tensor) -> Tensor:
        if self.order is None:
            return counted
        return counted.permute([self.order.index(d) for d in range(len(self.order))])


def _memory_order(x: Tensor) -> tuple[int, ...] | None:
    """From the outermost dimension to the innermost, for a kernel that reads what is dense as it lies."""
    return None if x.is_contiguous() else tuple(sorted(range(x.dim()), key=x.stride, reverse=True))


def _drop(x: Tensor, mask: Tensor, p: float) -> Tensor:
    """Not x * mask: an infinity that is dropped is 0 and no NaN."""
    scale = 0 if p == 1 else 1 / (1 - p)
    bits = _INTEGERS.get(x.dtype)
    if bits is None or mask.shape != x.shape or watched():
        return torch.where(mask, x, 0) * scale
    out = torch.empty_like(x)

    def drop(index: Block) -> None:
        part = torch.mul(x[index], scale, out=out[index])
        part.view(bits).mul_(mask[index])  # all bits of an element or none: a fourth of the time of `where`

    parallel_for(blocks(x.shape), drop, x)
    return out


def _nothing(x: Tensor) -> Tensor:
    """The mask that keeps no element, of whatever shape."""
    return torch.zeros((), dtype=torch.bool, device=x.device)


def _drawn(shape: torch.Size, device: torch.device, p: float, generator: torch.Generator | None = None) -> Tensor:
    """A mask of independent elements. A number is drawn and compared, as torch's Bernoulli takes four times as long."""
    return torch.rand(shape, device=device, generator=generator) >= p


def _kept(shape: torch.Size, device: torch.device, p: float, seed: int) -> Tensor:
    """The mask of that seed: the same one whenever it is asked for."""
    return _drawn(shape, device, p, torch.Generator(device).manual_seed(seed))


def _draw_seed() -> int:
    if torch.compiler.is_compiling():
        raise CallError('dropout: memory="seed" cannot be compiled, as its seed is no constant; take memory="bits"')
    seed = torch.randint(2**62, (), device="cpu")
    if functorch_active() and torch.func.debug_unwrap(seed).dim() > 0:
        raise CallError(
            'dropout: memory="seed" has one seed for all examples of a vmap; take memory="bits", or randomness="same"'
        )
    return int(seed.item())
