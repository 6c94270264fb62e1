"""Losses over a softmax, of rows of logits: by the native kernel, or in torch ops some rows at a time."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from gradsmith.catalog.parallel import parallel_for
from gradsmith.catalog.rows import Block, accumulation, blocks, watched
from gradsmith.catalog.softmax_step import (
    Columns,
    Loss,
    Rows,
    common_factor,
    differentiable,
    finish,
    joined,
    losses_alone,
    losses_and_gradient_into,
    soften,
)
from gradsmith.native import kernels


def row_losses(logits: Tensor, targets: Tensor, weight: Tensor | None, loss: Loss) -> Tensor:
    """The loss of each row, 0 where it is ignored, in float32 or more.

    Args:
        logits: (N, C), floating-point.
        targets: (N,), class indices. Raises IndexError for one that is neither a class nor ignored.
        weight: (C,), or None.
    """
    check_labels(targets, logits.shape[1], loss.ignore_index)
    native = kernels(logits, _single(weight)) if _fits(logits, targets) else None
    if native is not None:
        return native.cross_entropy(logits, targets.contiguous(), _single(weight), *_options(loss))  # type: ignore[no-any-return]
    rows = _rows(targets, weight, loss, logits)
    if watched():
        return differentiable(_capped(logits, loss), rows, None)[0]
    parts = parallel_for(_blocks(logits), lambda at: losses_alone(_capped(logits[at], loss), rows.at(at)), logits)
    return torch.cat(parts)


def losses_and_gradient(
    logits: Tensor, targets: Tensor, weight: Tensor | None, loss: Loss, scale: Tensor, into: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The loss of each row, and the gradient of Σ_rows scale · loss.

    Args:
        logits, targets, weight: as for `row_losses`.
        scale: (N,), in float32 or more; the upstream gradient of each row, 0 where it is ignored.
        into: where to write the gradient, which may be logits itself; a new tensor if None.
    """
    check_labels(targets, logits.shape[1], loss.ignore_index)
    native = kernels(logits, _single(weight), scale, into) if _fits(logits, targets) else None
    if native is not None:
        into = torch.empty(logits.shape, dtype=logits.dtype) if into is None else into
        options = (targets.contiguous(), _single(weight), *_options(loss), scale.contiguous())
        return native.cross_entropy_fused(logits, *options, into), into
    rows = _rows(targets, weight, loss, logits)
    if watched():
        z = _capped(logits, loss)
        losses, gradient = differentiable(z, rows, scale)
        assert gradient is not None  # asked for by scale
        gradient = (gradient * _cap_slope(z, loss) if loss.softcap else gradient).to(logits.dtype)
        return losses, gradient if into is None else into.copy_(gradient)
    into = torch.empty_like(logits, memory_format=torch.contiguous_format) if into is None else into
    return _in_blocks(logits, rows, loss, scale, into), into


def _in_blocks(logits: Tensor, rows: Rows, loss: Loss, scale: Tensor, into: Tensor) -> Tensor:
    """The loss of each row; the gradient is written into `into`."""
    if logits.dtype != torch.float16 and not loss.softcap:
        factor = common_factor(rows, scale)

        def soften_some(at: Block) -> Columns:
            return soften(logits[at], rows.at(at), scale[at], factor, into[at])

        return finish(into, joined(parallel_for(_blocks(logits), soften_some, logits)), rows, scale)

    # float16 has no room for small probabilities, and a cap is worth float32: through a temporary tensor.
    def through_another(at: Block) -> Tensor:
        z = _capped(logits[at], loss)
        slope = _cap_slope(z, loss) if loss.softcap else None
        losses = losses_and_gradient_into(z, rows.at(at), scale[at], z)
        into[at] = z if slope is None else z.mul_(slope)
        return losses

    return torch.cat(parallel_for(_blocks(logits), through_another, logits))


def check_labels(targets: Tensor, classes: int, ignore_index: int) -> None:
    """Raise torch's IndexError for a label out of range, where the values are at hand without waiting for a device."""
    if not targets.is_cpu or watched() or not targets.numel():
        return
    labels = torch.where(targets == ignore_index, 0, targets)
    least, most = (int(bound) for bound in torch.aminmax(labels))
    if least < 0 or most >= classes:
        raise IndexError(f"Target {least if least < 0 else most} is out of bounds.")


def row_scale(
    targets: Tensor, weight: Tensor | None, ignore_index: int, reduction: str, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """The upstream gradient of each row for a loss whose own is 1, and what "mean" divides by.

    That is the sum of the weights of the rows' classes. Where all rows are ignored the mean is 0/0, but no logit has
    any part in it: the gradient is 0, as torch has it.
    """
    valid = targets != ignore_index
    counts = valid.double()
    if weight is not None:
        counts = torch.where(valid, weight[torch.where(valid, targets, 0)].double(), 0)
    total = counts.sum()
    scale = valid.to(dtype)
    return scale / torch.where(total == 0, 1, total).to(dtype) if reduction == "mean" else scale, total


def reduced(losses: Tensor, total: Tensor, reduction: str, dtype: torch.dtype) -> Tensor:
    """The losses of the rows as the caller wants them; summed in float64, so that the number of threads is not seen."""
    if reduction == "none":
        return losses.to(dtype)
    value = losses.sum(dtype=torch.float64)
    return (value / total if reduction == "mean" else value).to(dtype)


def _rows(targets: Tensor, weight: Tensor | None, loss: Loss, logits: Tensor) -> Rows:
    return Rows.of(targets, weight, loss, logits.shape[1], accumulation(logits.dtype))


def _blocks(logits: Tensor) -> Iterator[Block]:
    """Rows of 4 MiB, twice as much as usual: a block has many operations on columns, whose start takes time."""
    return blocks(logits.shape[:1], logits.shape[1] * logits.dtype.itemsize / 8)


def _capped(logits: Tensor, loss: Loss) -> Tensor:
    z = logits.to(accumulation(logits.dtype))
    return loss.softcap * torch.tanh(z / loss.softcap) if loss.softcap else z


def _cap_slope(z: Tensor, loss: Loss) -> Tensor:
    """The derivative of the capped logits by the logits."""
    return 1 - (z / loss.softcap).square()


def _fits(logits: Tensor, targets: Tensor) -> bool:
    """Whether the kernel can read the rows as they lie."""
    return logits.shape[1] > 0 and logits.stride(1) == 1 and targets.is_cpu and targets.dtype == torch.long


def _single(values: Tensor | None) -> Tensor | None:
    return None if values is None else values.float().contiguous()


def _options(loss: Loss) -> tuple[int, float, float, float]:
    return loss.ignore_index, loss.label_smoothing, loss.softcap, loss.z_loss
