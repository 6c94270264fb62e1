"""`is_grads_batched=True`: several upstream gradients at once, which arrive in torch's former vmap.

That one has no rule for many operations, and nothing in Python tells that it is at work. So a backward that it reaches
goes on under `torch.func.vmap`, as a call under torch.func does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from gradsmith.define._private import enter_former_vmap, is_former_batched, leave_former_vmap


def arrives_batched(upstream: Sequence[Any]) -> bool:
    """Whether some of the upstream gradients are batched. Asked in every backward, so not by a generator."""
    for grad in upstream:  # noqa: SIM110
        if grad is not None and is_former_batched(grad):
            return True
    return False


def pull_batched(pull: Callable[[Sequence[Any]], tuple[Any, ...]], upstream: Sequence[Any]) -> tuple[Any, ...]:
    """What `pull` returns for upstream gradients of which some are batched."""
    batched = [index for index, grad in enumerate(upstream) if grad is not None and is_former_batched(grad)]
    missing: list[int] = []

    def one(*grads: Tensor) -> tuple[Tensor, ...]:
        whole = list(upstream)
        for index, grad in zip(batched, grads, strict=True):
            whole[index] = grad
        found = pull(whole)
        missing[:] = [index for index, grad in enumerate(found) if grad is None]
        return tuple(grad for grad in found if grad is not None)

    taken = [leave_former_vmap(upstream[index]) for index in batched]
    # "same": what a backward draws again, such as the mask of a dropout, is one for all.
    given: list[Any] = [enter_former_vmap(grad) for grad in torch.func.vmap(one, randomness="same")(*taken)]
    for index in missing:
        given.insert(index, None)
    return tuple(given)
