"""The logits of a linear layer some rows at a time, each overwritten by its gradient and used up at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from gradsmith.catalog import _private
from gradsmith.catalog.products import Products
from gradsmith.catalog.rows import accumulation, watched
from gradsmith.catalog.softmax_loss import losses_and_gradient, row_losses
from gradsmith.catalog.softmax_step import Loss

_LOGITS_AT_ONCE = 2**24
_FEWEST_ROWS = 256  # below, the three matrix products are slower than the loss is worth
_ROUNDED_SUMS = 8  # chunks whose products may be summed in 16 bits: more would be less exact than one product


@dataclass(frozen=True)
class Problem:
    """N rows of H features, C classes, and what is lost."""

    rows: Tensor  # (N, H)
    linear_weight: Tensor  # (C, H)
    linear_bias: Tensor | None
    targets: Tensor  # (N,)
    weight: Tensor | None  # (C,)
    loss: Loss
    chunk: int

    @staticmethod
    def of(
        input: Tensor,
        linear_weight: Tensor,
        linear_bias: Tensor | None,
        target: Tensor,
        weight: Tensor | None,
        loss: Loss,
        chunk: int | None,
    ) -> Problem:
        rows = input.reshape(target.numel(), linear_weight.shape[1])
        size = chunk or chunk_for(len(linear_weight))
        return Problem(rows, linear_weight, linear_bias, target.reshape(-1), weight, loss, size)

    def for_products(self) -> Problem:
        """The same in the dtype in which this machine multiplies matrices well."""
        wide = _dtype_of_products(self.rows)
        if wide == self.rows.dtype:
            return self
        bias = None if self.linear_bias is None else self.linear_bias.to(wide)
        return replace(self, rows=self.rows.to(wide), linear_weight=self.linear_weight.to(wide), linear_bias=bias)

    def logits(self) -> Tensor:
        """The logits of all rows."""
        return functional.linear(self.rows, self.linear_weight, self.linear_bias)

    def chunks(self) -> Iterator[tuple[slice, Tensor]]:
        """Each slice of rows, and its logits: those of the last chunk are lost, or to be let go before the next."""
        product = Products()
        for start in range(0, len(self.rows), self.chunk):
            at = slice(start, start + self.chunk)
            yield at, product(self.rows[at], self.linear_weight, self.linear_bias)

    def sums_in(self) -> torch.dtype:
        """The dtype for the sum of the weight's gradient over the chunks."""
        dtype = self.rows.dtype
        return dtype if len(self.rows) <= _ROUNDED_SUMS * self.chunk else accumulation(dtype)


def chunk_for(classes: int) -> int:
    """Rows at a time: a power of two that has at most `_LOGITS_AT_ONCE` logits.

    With more rows the sum of the weight's gradient is read and written less often, but they take more memory.
    """
    rows = max(_FEWEST_ROWS, _LOGITS_AT_ONCE // max(1, classes))
    return 1 << (rows.bit_length() - 1)


def _dtype_of_products(rows: Tensor) -> torch.dtype:
    """A CPU without instructions for 16-bit numbers takes ten to a hundred times as long for their products."""
    return rows.dtype if not rows.is_cpu or _private.multiplies(rows.dtype) else accumulation(rows.dtype)


def losses_of(problem: Problem) -> Tensor:
    """The loss of each row; from all logits at once where it may be differentiated."""
    if watched():
        return row_losses(problem.logits(), problem.targets, problem.weight, problem.loss)
    problem = problem.for_products()
    losses = problem.rows.new_empty(len(problem.rows), dtype=accumulation(problem.rows.dtype))
    for at, logits in problem.chunks():
        losses[at] = row_losses(logits, problem.targets[at], problem.weight, problem.loss)
        del logits  # before the next are there
    return losses


def gradients(
    problem: Problem, scale: Tensor, wanted: tuple[bool, bool, bool], accumulate: torch.dtype | None
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """The loss of each row, and the gradients of Σ_rows scale · loss by rows, weight and bias where they are wanted.

    The sum over chunks of the gradient of the weight is taken in `accumulate`, that of the bias in float32 or more.
    """
    dtype, problem = problem.rows.dtype, problem.for_products()
    losses = torch.empty_like(scale)
    for_rows, for_weight, for_bias = wanted
    like = problem.linear_weight
    sums = accumulate or problem.sums_in()
    d_rows = torch.empty_like(problem.rows) if for_rows else None
    d_weight = torch.zeros(like.shape, dtype=sums, device=like.device) if for_weight else None
    d_bias = scale.new_zeros(len(like)) if for_bias else None
    for at, logits in problem.chunks():
        losses[at], upstream = losses_and_gradient(
            logits, problem.targets[at], problem.weight, problem.loss, scale[at], logits
        )
        if d_rows is not None:
            torch.mm(upstream, like, out=d_rows[at])
        if d_weight is not None:
            _add_product(d_weight, upstream, problem.rows[at])
        if d_bias is not None:
            d_bias += upstream.sum(0, dtype=scale.dtype)
        del logits, upstream  # before the next are there
    d_rows, d_weight, d_bias = (
        None if gradient is None else gradient.to(dtype) for gradient in (d_rows, d_weight, d_bias)
    )
    return losses, d_rows, d_weight, d_bias


def _add_product(total: Tensor, upstream: Tensor, rows: Tensor) -> None:
    if total.dtype == upstream.dtype:
        total.addmm_(upstream.mT, rows)
    else:
        total += upstream.mT @ rows
