"""The second half of a gated feed-forward layer, which keeps nothing that is quick to compute again."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torch.nn import functional

from gradsmith.catalog.activations import SILU, check_gated, gated, gated_gradients
from gradsmith.define.op import op


@op(cast="inputs")
def swiglu_linear(gate: Tensor, up: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """linear(swiglu(gate, up), weight, bias), without its middle saved.

    With h = silu(gate) up and y = h Wᵀ + b, for the upstream gradient g,

        ∂L/∂h = g W        ∂L/∂W = gᵀ h        ∂L/∂b = Σ g

    and from ∂L/∂h the gradients of gate and up, as in `swiglu`. h is computed once more for ∂L/∂W: one pass over memory
    beside a matrix product, for a tensor as large as gate that need not be kept.

    Args:
        gate, up: (*, hidden), the same shape and dtype; floating-point.
        weight: (out_features, hidden).
        bias: (out_features,), or None.

    Returns:
        (*, out_features). Under autocast the arguments are cast, as `torch.nn.functional.linear` does.

    Saves: gate, up and weight. Source: Shazeer, https://arxiv.org/abs/2002.05202; recomputation as in Chen et al.,
    https://arxiv.org/abs/1604.06174.

    Raises RuntimeError where shapes or dtypes do not fit together.

    >>> import torch, gradsmith as gs
    >>> gs.catalog.swiglu_linear(torch.ones(1, 2), torch.ones(1, 2), torch.ones(1, 2))
    tensor([[1.4621]])
    """
    check_gated("swiglu_linear", gate, up)
    return functional.linear(gated(SILU, gate, up), weight, bias)


@swiglu_linear.vjp("gate", "up", "weight")
def _(
    grad: Tensor, gate: Tensor, up: Tensor, weight: Tensor, needs: Mapping[str, bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    for_weight = None
    if needs["weight"]:  # first, so that its middle is gone before the other gradients need room
        middle = gated(SILU, gate, up)
        for_weight = grad.reshape(-1, len(weight)).mT @ middle.reshape(-1, weight.shape[1])
        del middle
    if not (needs["gate"] or needs["up"]):
        return None, None, for_weight
    for_middle = (grad @ weight).to(gate.dtype)  # which autocast may have left in another
    return *gated_gradients(SILU, for_middle, gate, up), for_weight


@swiglu_linear.vjp("bias")
def _(grad: Tensor, bias_shape: tuple[int, ...]) -> Tensor:
    return grad.sum_to_size(bias_shape)
