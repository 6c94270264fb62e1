"""DTensors: an opaque operator runs on whole tensors, since nobody knows how its work could be divided."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

_registered: set[Any] = set()


def replicate(operator: Any, values: Sequence[Any]) -> None:
    """Where an argument is a DTensor, register that the operator wants every argument replicated.

    Without a rule torch would refuse the call; with this one, shards are gathered first. Nothing is imported for a
    program that has no DTensors.
    """
    module = sys.modules.get("torch.distributed.tensor")
    if module is None or operator in _registered:
        return
    if not any(isinstance(value, module.DTensor) for value in values):
        return
    from torch.distributed.tensor.experimental import register_sharding

    overload = operator._opoverload
    outputs = len(overload._schema.returns)

    @register_sharding(overload)  # type: ignore[untyped-decorator]
    def rule(*args: Any, **kwargs: Any) -> Any:
        whole = module.Replicate()
        placements = [whole if hasattr(arg, "shape") else None for arg in args]
        return [([whole] * outputs, placements)]

    _registered.add(operator)
