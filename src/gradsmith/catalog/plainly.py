"""Whether a forward or a formula is run for its numbers alone."""

from __future__ import annotations

import torch

from gradsmith.define._private import functorch_active


def plainly() -> bool:
    """True where nothing records what is computed now: no second derivative, no transform of torch.func.

    Then a function may write over its own intermediate tensors, and call one of aten's backward functions that has no
    derivative of its own. In all other cases it computes the same in differentiable operations, out of place: under
    vmap, a tensor that was made without the batch dimension could not take a result that has it.
    """
    return not torch.is_grad_enabled() and not functorch_active()
