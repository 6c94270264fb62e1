"""The affine map of a neural network's layer."""

from __future__ import annotations

from torch import Tensor

from gradsmith.catalog.products import affine
from gradsmith.define.op import op


def _rows(tensor: Tensor) -> Tensor:
    """All leading dimensions as one, of which there may be none; sizes of 0 are no exception."""
    return tensor.reshape(tensor.shape[:-1].numel(), tensor.shape[-1])


def _for_input(grad: Tensor, weight: Tensor) -> Tensor:
    return affine(grad, weight.conj().mT) if weight.dim() == 2 else grad.unsqueeze(-1) * weight.conj()


def _for_weight(grad: Tensor, input: Tensor, weight_shape: tuple[int, ...]) -> Tensor:
    upstream = grad if len(weight_shape) == 2 else grad.unsqueeze(-1)
    return (_rows(upstream).mT @ _rows(input.conj())).reshape(weight_shape)


def _for_bias(grad: Tensor, bias_shape: tuple[int, ...]) -> Tensor:
    return grad.sum_to_size(bias_shape)


@op(input=_for_input, weight=_for_weight, bias=_for_bias, cast="inputs")
def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """input @ weightᵀ + bias, as `torch.nn.functional.linear`.

    With y_no = Σ_i x_ni W_oi + b_o and g = ∂L/∂y, the chain rule gives

        ∂L/∂x_ni = Σ_o g_no W_oi      grad @ weight
        ∂L/∂W_oi = Σ_n g_no x_ni      gradᵀ @ input, over all leading dimensions as one
        ∂L/∂b_o  = Σ_n g_no           grad summed over the leading dimensions

    with conjugates where the dtype is complex, by torch's convention.

    Args:
        input: (*, in_features), with any number of leading dimensions, none included.
        weight: (out_features, in_features), or (in_features,) for an output without that dimension.
        bias: (out_features,), or None.

    Returns:
        (*, out_features). Under autocast the arguments are cast, as `torch.nn.functional.linear` does.

    In float32 on a processor of AMD's, oneDNN multiplies in the place of MKL where it is the quicker: up to twice its
    rounding error, which is that of adding some 512 products in a row.

    Saves: weight where input needs a gradient, input where weight does, and nothing for bias: never more than torch.
    Source: PyTorch's derivatives.yaml, `linear` and `linear_backward`.

    Raises RuntimeError where the shapes or dtypes do not fit together, as torch does.

    >>> import torch, gradsmith as gs
    >>> gs.linear(torch.ones(4, 3), torch.ones(2, 3), torch.zeros(2)).shape
    torch.Size([4, 2])
    """
    return affine(input, weight, bias)
