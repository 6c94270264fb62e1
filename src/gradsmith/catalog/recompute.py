"""Saved tensors that are computed again in the backward, where that takes a pass over memory and nothing more."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import ReferenceType, ref

import torch
from torch import Tensor

from gradsmith.catalog.rows import watched
from gradsmith.define import precision
from gradsmith.define._private import version

_SMALLEST = 1024
_here = threading.local()


@contextmanager
def recompute_saves() -> Iterator[None]:
    """Within this context, what is quick to compute again is not saved: by gradsmith's ops and by torch's alike.

    A linear layer keeps its input for the gradient of its weight. Where that input is the output of a norm or of an
    activation, which keep their own input in turn, it can be had from there: `rms_norm`, `layer_norm`, their variants
    with a residual (the norm, not the sum), `silu`, `gelu`, `swiglu` and `geglu` say how. What saves such an output
    then holds a note of it instead, and the backward computes it once more, for each that saved it: the same numbers,
    and so the same gradients to the last bit. Tensors with less than 1024 elements are saved as ever, and so is all
    that torch's own norms and activations return.

    The context is that of one thread, and of eager mode: what torch.compile traces keeps what it keeps, and torch.func
    refuses to run under it. Of nested contexts with saved-tensor hooks, `compress_saves` among them, torch heeds the
    innermost alone.

    Source: recomputation of what is cheap, Chen et al., https://arxiv.org/abs/1604.06174, and for transformers
    Korthikanti et al., https://arxiv.org/abs/2205.05198, section 5.

    Raises RuntimeError in the backward where an input of such an op was written to since.

    >>> import gradsmith as gs
    >>> x, weight = torch.randn(64, 64, requires_grad=True), torch.randn(8, 64, requires_grad=True)
    >>> with gs.recompute_saves():
    ...     y = torch.nn.functional.linear(gs.silu(x), weight)
    >>> y.sum().backward()
    """
    outer = getattr(_here, "book", None)
    _here.book = book = _Book()
    try:
        with torch.autograd.graph.saved_tensors_hooks(book.pack, _unpack):
            yield
    finally:
        _here.book = outer


def recomputable(out: Tensor, function: Callable[..., Tensor], *args: Any) -> Tensor:
    """`out`, of which the forward of an op says that `function(*args)` is the same again.

    All tensors among `args` must be alive for other reasons, as the op itself saves them: else nothing is gained.
    """
    book = getattr(_here, "book", None)
    if book is not None and out.numel() >= _SMALLEST and out.is_contiguous() and not watched():
        book.enter(out, _Recipe(function, args, book.pack, precision.current((out,))))
    return out


class _Recipe:
    """How a tensor is computed again."""

    def __init__(
        self,
        function: Callable[..., Tensor],
        args: Sequence[Any],
        pack: Callable[[Tensor], Any],
        autocast: precision.State,
    ) -> None:
        self._function, self._autocast = function, autocast
        # Detached: a note must not keep the graph behind a tensor, which a backward may free.
        self._args = [pack(arg.detach()) if isinstance(arg, Tensor) else arg for arg in args]
        self._versions = [version(arg) if isinstance(arg, Tensor) else None for arg in self._args]

    def __call__(self) -> Tensor:
        values = [self._value(*pair) for pair in zip(self._args, self._versions, strict=True)]
        tensors = [value for value in values if isinstance(value, Tensor)]
        with torch.no_grad(), precision.replay(self._autocast, tensors):
            return self._function(*values)

    def _value(self, arg: Any, written: int | None) -> Any:
        if isinstance(arg, Tensor) and version(arg) != written:
            raise RuntimeError(
                f"recompute_saves: a tensor of shape {list(arg.shape)} was written to after an op had used it, and "
                f"from it a saved tensor was to be computed again; write to a copy, or leave this part out of the "
                f"context"
            )
        return _unpack(arg)


@dataclass(frozen=True)
class _View:
    """A view of what a recipe gives."""

    recipe: _Recipe
    size: torch.Size
    stride: tuple[int, ...]
    offset: int


@dataclass(frozen=True)
class _Entry:
    memory: ReferenceType[Any]
    dtype: torch.dtype
    version: int
    recipe: _Recipe


class _Book:
    """The recipes of the outputs whose memory is still in use, each by its address."""

    def __init__(self) -> None:
        self._entries: dict[int, _Entry] = {}

    def enter(self, out: Tensor, recipe: _Recipe) -> None:
        memory = out.untyped_storage()
        if memory.nbytes() != out.nbytes:
            return
        address = memory.data_ptr()

        def forget(gone: ReferenceType[Any]) -> None:
            if address in self._entries and self._entries[address].memory is gone:
                del self._entries[address]

        self._entries[address] = _Entry(ref(memory, forget), out.dtype, version(out), recipe)

    def pack(self, x: Tensor) -> Any:
        if x.layout != torch.strided or not self._entries:
            return x
        memory = x.untyped_storage()
        entry = self._entries.get(memory.data_ptr())
        if entry is None or entry.memory() is not memory or (x.dtype, version(x)) != (entry.dtype, entry.version):
            return x
        return _View(entry.recipe, x.size(), x.stride(), int(x.storage_offset()))


def _unpack(packed: Any) -> Any:
    if not isinstance(packed, _View):
        return packed
    return packed.recipe().as_strided(packed.size, packed.stride, packed.offset)
