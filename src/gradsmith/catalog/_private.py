"""The private parts of torch that the catalog calls, each with what happens when it is missing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

# The CPU's fused attention, forward and backward: blocks of scores that never leave the cache. Missing: None, and
# attention computes its blocks in torch ops.
flash_attention: Callable[..., Any] | None = getattr(
    torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", None
)
flash_attention_backward: Callable[..., Any] | None = getattr(
    torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu_backward", None
)


def is_view(tensor: torch.Tensor) -> bool:
    """Whether autograd takes the tensor for a view of another. Missing: every tensor is taken for one."""
    ask: Callable[[], bool] | None = getattr(tensor, "_is_view", None)
    return ask is None or ask()


# The gradients of softmax and log_softmax, in one pass. Missing: None, and the formula is written out.
softmax_backward: Callable[..., torch.Tensor] | None = getattr(torch.ops.aten, "_softmax_backward_data", None)
log_softmax_backward: Callable[..., torch.Tensor] | None = getattr(torch.ops.aten, "_log_softmax_backward_data", None)
