"""Autocast: the backward of a call runs in the precision in which its forward ran."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor

from gradsmith.define.primitive import is_differentiable

Cast = Literal["inputs", "float32"] | None
State = tuple[str, torch.dtype | None] | None  # device type, and the dtype that autocast was casting to

_AS_IT_IS: AbstractContextManager[None] = nullcontext()


@cache
def _available(device_type: str) -> bool:
    return torch.amp.is_autocast_available(device_type)


def current(tensors: Sequence[Any]) -> State:
    """The autocast state that holds for the device of the first tensor; None where there is no autocast."""
    for tensor in tensors:
        if isinstance(tensor, Tensor):
            return of_tensor(tensor)
    return None


def of_tensor(tensor: Tensor) -> State:
    """The autocast state that holds for the device of the tensor."""
    kind = "cpu" if tensor.is_cpu else tensor.device.type
    if not _available(kind):
        return None
    return (kind, torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else _off(kind)


@cache
def _off(kind: str) -> State:
    return kind, None


def holds(state: State) -> bool:
    """Whether `state` is the state now."""
    if state is None:
        return True
    kind, dtype = state
    if torch.is_autocast_enabled(kind):
        return dtype == torch.get_autocast_dtype(kind)
    return dtype is None


def replay(state: State) -> AbstractContextManager[Any]:
    """A context in which `state` holds again."""
    if holds(state):
        return _AS_IT_IS
    assert state is not None
    kind, dtype = state
    return torch.autocast(kind, enabled=False) if dtype is None else torch.autocast(kind, dtype=dtype)


def cast_arguments(cast: Cast, args: Sequence[Any]) -> tuple[Sequence[Any], AbstractContextManager[Any]]:
    """Under autocast, floating-point arguments in the precision that an op declares, and a context without autocast.

    The casts are differentiable, so each gradient arrives in the dtype of the argument that the caller passed.
    """
    state = current(args)
    if cast is None or state is None or state[1] is None:
        return args, _AS_IT_IS
    kind, dtype = state
    target = torch.float32 if cast == "float32" else dtype
    cast_args = [
        arg.to(target) if is_differentiable(arg) and not arg.is_complex() and arg.dtype != torch.float64 else arg
        for arg in args
    ]
    return cast_args, torch.autocast(kind, enabled=False)
