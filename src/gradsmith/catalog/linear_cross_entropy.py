"""The last layer of a language model and its loss together, without ever holding all logits."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from gradsmith.catalog.linear_chunks import Problem, gradients, losses_of
from gradsmith.catalog.rows import accumulation, watched
from gradsmith.catalog.softmax_loss import losses_and_gradient, reduced, row_scale
from gradsmith.catalog.softmax_step import Loss
from gradsmith.define._private import transformed
from gradsmith.define.errors import CallError
from gradsmith.define.keep import keep
from gradsmith.define.op import Op

_MEMORY = ("auto", "forward", "recompute")


def linear_cross_entropy(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    linear_bias: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: str = "mean",
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    softcap: float = 0.0,
    z_loss: float = 0.0,
    memory: str = "auto",
    accumulate: torch.dtype | None = None,
    chunk: int | None = None,
) -> Tensor:
    """cross_entropy(linear(input, linear_weight, linear_bias), target), some rows at a time.

    The logits x = input linear_weightᵀ + linear_bias of N rows over C classes are the largest tensor of a language
    model. Here only `chunk` rows of them exist at a time, and are overwritten by their gradient G (`softmax_loss`
    derives it), from which

        ∂L/∂input = G linear_weight        ∂L/∂linear_weight = Gᵀ input        ∂L/∂linear_bias = Σ_rows G

    Args:
        input: (*, H), a floating-point dtype.
        linear_weight: (C, H), of the dtype of input.
        target: (*), class indices.
        linear_bias: (C,), or None.
        weight: (C,), a weight per class that has no gradient, or None.
        reduction: "mean" (over Σ w_y of the rows that are not ignored), "sum" or "none".
        ignore_index: rows with this target count nothing.
        label_smoothing: from 0 to 1.
        softcap: the logits are capped, softcap · tanh(x / softcap); 0 for none.
        z_loss: z_loss · lse² is added to the loss of each row, lse the log-sum-exp of its logits.
        memory: "forward" computes the gradients in the forward, with the logits once; they cannot be differentiated
            again (SecondDerivativeError). "recompute" computes the logits once more in the backward, saves input and
            linear_weight alone, and has second derivatives (which hold all logits). "auto" is "forward" where a
            gradient is needed, reduction is not "none" and input not float16, whose gradients need a loss scale that
            is not known yet.
        accumulate: the dtype in which the gradient of linear_weight is summed over the chunks. If None its own for up
            to 8 chunks, and float32 for more, where sums in 16 bits would be less exact than one product of matrices.
        chunk: rows at a time; chosen from the shapes if None.

    Under torch.func and torch.compile, all logits are held. Source: Wijmans et al., Cut Your Losses,
    https://arxiv.org/abs/2411.09009; Hsu et al., Liger Kernel, https://arxiv.org/abs/2410.10989.

    Raises CallError for options or shapes that do not fit together, IndexError for a target that is no class, and
    MissingFormula where weight requires a gradient.

    >>> x, w = torch.zeros(2, 3, requires_grad=True), torch.zeros(4, 3)
    >>> linear_cross_entropy(x, w, torch.tensor([0, 1])).detach()
    tensor(1.3863)
    """
    _check_shapes(input, linear_weight, target, linear_bias, weight)
    _check_options(reduction, label_smoothing, memory)
    wanted = _wanted(input, linear_weight, linear_bias)
    if memory == "auto":
        early = any(wanted) and reduction != "none" and _dtype(input) != torch.float16
        memory = "forward" if early else "recompute"
    tensors = input, linear_weight, linear_bias, target, weight
    options = reduction, ignore_index, label_smoothing, softcap, z_loss, accumulate, chunk
    if memory == "forward" and any(wanted):
        return _early(*tensors, *options, *wanted)
    return _late(*tensors, *options)


# ---- gradients in the forward ----------------------------------------------------------------------------------------


def _forward_early(
    input: Tensor,
    linear_weight: Tensor,
    linear_bias: Tensor | None,
    target: Tensor,
    weight: Tensor | None,
    reduction: str,
    ignore_index: int,
    label_smoothing: float,
    softcap: float,
    z_loss: float,
    accumulate: torch.dtype | None,
    chunk: int | None,
    for_input: bool,
    for_weight: bool,
    for_bias: bool,
) -> Tensor:
    loss = Loss(ignore_index, label_smoothing, softcap, z_loss)
    problem = Problem.of(input, linear_weight, linear_bias, target, weight, loss, chunk)
    scale, total = row_scale(problem.targets, weight, ignore_index, reduction, accumulation(input.dtype))
    losses, d_input, d_weight, d_bias = gradients(problem, scale, (for_input, for_weight, for_bias), accumulate)
    d_input = None if d_input is None else d_input.view(input.shape)
    out = reduced(losses, total, reduction, input.dtype)
    return keep(out, d_input=d_input, d_weight=d_weight, d_bias=d_bias)  # type: ignore[return-value]  # an op unpacks it


_early: Op[..., Tensor] = Op(
    _forward_early,
    {
        "input": lambda grad, d_input: _times(d_input, grad),
        "linear_weight": lambda grad, d_weight: _times(d_weight, grad),
        "linear_bias": lambda grad, d_bias: _times(d_bias, grad),
    },
    name="linear_cross_entropy",
    once=True,
    cast="inputs",
)


def _times(gradient: Tensor, upstream: Tensor) -> Tensor:
    if gradient.is_cpu and not watched() and upstream.item() == 1:
        return gradient
    return gradient * upstream


# ---- gradients in the backward ---------------------------------------------------------------------------------------


def _forward_late(
    input: Tensor,
    linear_weight: Tensor,
    linear_bias: Tensor | None,
    target: Tensor,
    weight: Tensor | None,
    reduction: str,
    ignore_index: int,
    label_smoothing: float,
    softcap: float,
    z_loss: float,
    accumulate: torch.dtype | None,
    chunk: int | None,
) -> Tensor:
    loss = Loss(ignore_index, label_smoothing, softcap, z_loss)
    problem = Problem.of(input, linear_weight, linear_bias, target, weight, loss, chunk)
    losses = losses_of(problem)
    total = row_scale(problem.targets, weight, ignore_index, reduction, losses.dtype)[1]
    return reduced(losses.view(target.shape), total, reduction, input.dtype)


_late: Op[..., Tensor] = Op(_forward_late, {}, name="linear_cross_entropy", cast="inputs")


@_late.vjp("input", "linear_weight", "linear_bias")
def _(
    grad: Tensor,
    input: Tensor,
    linear_weight: Tensor,
    linear_bias: Tensor | None,
    target: Tensor,
    weight: Tensor | None,
    reduction: str,
    ignore_index: int,
    label_smoothing: float,
    softcap: float,
    z_loss: float,
    accumulate: torch.dtype | None,
    chunk: int | None,
    needs: Mapping[str, bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    loss = Loss(ignore_index, label_smoothing, softcap, z_loss)
    problem = Problem.of(input, linear_weight, linear_bias, target, weight, loss, chunk)
    wide = accumulation(input.dtype)
    scale = row_scale(problem.targets, weight, ignore_index, reduction, wide)[0] * grad.to(wide).flatten()
    wanted = needs["input"], needs["linear_weight"], needs["linear_bias"]
    if watched():
        _, upstream = losses_and_gradient(problem.logits(), problem.targets, weight, loss, scale)
        d_input, d_weight, d_bias = upstream @ linear_weight, upstream.mT @ problem.rows, upstream.sum(0)
        return d_input.view(input.shape), d_weight, d_bias
    _, for_input, for_weight, for_bias = gradients(problem, scale, wanted, accumulate)
    return None if for_input is None else for_input.view(input.shape), for_weight, for_bias


# ---- what is asked and whether it fits -------------------------------------------------------------------------------


def _wanted(*tensors: Tensor | None) -> tuple[bool, bool, bool]:
    """Which gradients a backward may ask for: none without grad mode, and under torch.func not known in the forward."""
    live = torch.is_grad_enabled() and not transformed()
    first, second, third = (live and tensor is not None and tensor.requires_grad for tensor in tensors)
    return first, second, third


def _dtype(input: Tensor) -> torch.dtype:
    """The dtype that the op will see."""
    kind = input.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else input.dtype


def _check_shapes(
    input: Tensor, linear_weight: Tensor, target: Tensor, linear_bias: Tensor | None, weight: Tensor | None
) -> None:
    name = "linear_cross_entropy"
    if not input.dim() or linear_weight.dim() != 2 or linear_weight.shape[1] != input.shape[-1]:
        raise CallError(
            f"{name}: `input` has shape {list(input.shape)} and `linear_weight` {list(linear_weight.shape)}, expected "
            f"(*, H) and (C, H)"
        )
    if target.shape != input.shape[:-1] or target.dtype != torch.long:
        raise CallError(
            f"{name}: `target` is {target.dtype} of shape {list(target.shape)}, expected class indices, torch.int64 of "
            f"shape {list(input.shape[:-1])} as `input` without its last dimension"
        )
    for given, what in ((linear_bias, "linear_bias"), (weight, "weight")):
        if given is not None and given.shape != linear_weight.shape[:1]:
            raise CallError(
                f"{name}: `{what}` has shape {list(given.shape)}, expected ({len(linear_weight)},), one value per class"
            )


def _check_options(reduction: str, label_smoothing: float, memory: str) -> None:
    name = "linear_cross_entropy"
    if reduction not in ("none", "sum", "mean"):
        raise CallError(f"{name}: `reduction` is {reduction!r}, expected 'none', 'sum' or 'mean'")
    if not 0 <= label_smoothing <= 1:
        raise CallError(f"{name}: `label_smoothing` is {label_smoothing}, expected a number from 0 to 1")
    if memory not in _MEMORY:
        raise CallError(f"{name}: `memory` is {memory!r}, expected one of {', '.join(_MEMORY)}")
    if memory == "forward" and reduction == "none":
        raise CallError(
            f"{name}: memory='forward' needs an upstream gradient that is one number, and reduction='none' has one per "
            f"row; use memory='recompute' or 'auto'"
        )
