"""The private parts of torch that gradsmith reads, each with what happens when it is missing.

Nothing else in `gradsmith.define` touches a name of torch that begins with an underscore.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
import torch.autograd.forward_ad as forward_ad

F = TypeVar("F", bound=Callable[..., Any])


def _always() -> bool:
    return True


# True while torch.func transforms are active. Missing: every call goes the slower way that is right under both.
functorch_active: Callable[[], bool] = getattr(torch._C, "_are_functorch_transforms_active", _always)


# Whether autocast is on for any device. Missing: it may be, so every call asks for its own device.
autocast_anywhere: Callable[[], bool] = getattr(torch._C, "_is_any_autocast_enabled", _always)


def forward_ad_active() -> bool:
    """Whether a forward-mode level is open. Missing: tensors are kept for forward mode at every call."""
    return getattr(forward_ad, "_current_level", 0) >= 0


def transformed() -> bool:
    """Whether torch.func, forward mode or torch.compile looks on at what is computed now."""
    return functorch_active() or forward_ad_active() or torch.compiler.is_compiling()


def _never(tensor: torch.Tensor) -> bool:
    return False


_FORMER_VMAP = all(
    hasattr(home, name)
    for home, name in (
        (torch, "_add_batch_dim"),
        (torch, "_remove_batch_dim"),
        (torch._C, "_vmapmode_increment_nesting"),
        (torch._C, "_vmapmode_decrement_nesting"),
        (torch._C, "_functorch"),
    )
)

# Whether the tensor is one of torch's former vmap, which `is_grads_batched` uses.
# Missing, or one of the names above: no tensor is, and that vmap does what it can.
is_former_batched: Callable[[torch.Tensor], bool] = (
    getattr(torch._C._functorch, "is_legacy_batchedtensor", _never) if _FORMER_VMAP else _never
)


def leave_former_vmap(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor with its batch as the first dimension."""
    out: torch.Tensor = torch._remove_batch_dim(tensor, _former_level(), 1, 0)
    return out


def enter_former_vmap(tensor: torch.Tensor) -> torch.Tensor:
    """The inverse."""
    out: torch.Tensor = torch._add_batch_dim(tensor, 0, _former_level())
    return out


def _former_level() -> int:
    level = int(torch._C._vmapmode_increment_nesting()) - 1
    torch._C._vmapmode_decrement_nesting()
    return level


def forward_ad_enabled() -> AbstractContextManager[Any]:
    """Let the tangents of outer levels pass through a jvp rule; torch switches all levels off inside one.

    Missing: nested forward mode stays as torch has it, so `NESTED_FORWARD_MODE` is False and it is refused.
    """
    enabled = getattr(forward_ad, "_set_fwd_grad_enabled", None)
    return nullcontext() if enabled is None else enabled(True)


NESTED_FORWARD_MODE = hasattr(forward_ad, "_set_fwd_grad_enabled")


# The module of torch's compiler. Missing: it is never imported, and nobody is told of it.
COMPILER = "torch._dynamo"


def in_graph(function: F) -> F:
    """Make `function` one call in a graph that torch.compile captures, traced with its autograd rule kept.

    `nonstrict_trace` allows nested outputs. Missing: `allow_in_graph`, which wants tensors or tuples of tensors.
    """
    dynamo = getattr(torch, "_dynamo", None)
    if dynamo is None:
        import torch._dynamo as dynamo
    nonstrict: Callable[[F], F] | None = getattr(dynamo, "nonstrict_trace", None)
    return torch.compiler.allow_in_graph(function) if nonstrict is None else nonstrict(function)


# What torch.amp.custom_fwd leaves on its first argument for custom_bwd to read. In a class with setup_context that
# argument is a tensor instead of ctx, so torch loses them there. Missing: nothing is carried over.
AUTOCAST_MARKS = ("_dtype", "_fwd_used_autocast")


def version(tensor: torch.Tensor) -> int:
    """How often the tensor was written to. Missing (or an inference tensor): writes go unnoticed."""
    try:
        return int(getattr(tensor, "_version", 0))
    except RuntimeError:  # inference tensors do not count
        return 0


def is_view(tensor: torch.Tensor) -> bool:
    """Whether the tensor is a view of another. Missing: it is taken for none."""
    return base_of(tensor) is not tensor


def base_of(tensor: torch.Tensor) -> torch.Tensor:
    """What a view is a view of, and of another tensor itself. Missing: every tensor is taken for no view."""
    base: torch.Tensor | None = getattr(tensor, "_base", None)
    return tensor if base is None else base
