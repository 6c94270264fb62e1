"""Autocast: the backward of a call runs in the precision in which its forward ran."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor

from gradsmith.define._private import autocast_anywhere
from gradsmith.define.primitive import is_differentiable

Cast = Literal["inputs", "float32"] | None
State = tuple[str, torch.dtype] | None  # device type, and the dtype that autocast casts to; None where it is off

_AS_IT_IS: AbstractContextManager[None] = nullcontext()


@cache
def _available(device_type: str) -> bool:
    return torch.amp.is_autocast_available(device_type)


def current(tensors: Sequence[Any]) -> State:
    """The autocast state that holds for the device of the first tensor."""
    if not autocast_anywhere():
        return None
    kind = _device_type(tensors)
    if kind is None or not torch.is_autocast_enabled(kind):
        return None
    return kind, torch.get_autocast_dtype(kind)


def _device_type(tensors: Sequence[Any]) -> str | None:
    """The device of the first tensor, if it has autocast."""
    for tensor in tensors:
        if isinstance(tensor, Tensor):
            kind = tensor.device.type
            return kind if _available(kind) else None
    return None


def replay(state: State, tensors: Sequence[Any]) -> AbstractContextManager[Any]:
    """A context in which `state` holds again for the device of the tensors."""
    now = current(tensors)
    if now == state:
        return _AS_IT_IS
    if state is None:
        assert now is not None
        return torch.autocast(now[0], enabled=False)
    return torch.autocast(state[0], dtype=state[1])


def cast_arguments(cast: Cast, args: Sequence[Any]) -> tuple[Sequence[Any], AbstractContextManager[Any]]:
    """Under autocast, floating-point arguments in the precision that an op declares, and a context without autocast.

    The casts are differentiable, so each gradient arrives in the dtype of the argument that the caller passed.
    """
    state = current(args)
    if cast is None or state is None:
        return args, _AS_IT_IS
    kind, dtype = state
    target = torch.float32 if cast == "float32" else dtype
    cast_args = [
        arg.to(target) if is_differentiable(arg) and not arg.is_complex() and arg.dtype != torch.float64 else arg
        for arg in args
    ]
    return cast_args, torch.autocast(kind, enabled=False)
