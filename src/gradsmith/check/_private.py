"""The one place where the checker leans on how torch is built inside, each with its guard.

What is relied on: where `Function.apply` finds the engine's own `apply`, which attribute the engine reads
when it runs a backward, how to ask whether a transform is running, and how to see the operators that run.
A torch that changes any of them fails `tests/check/test_private.py`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

# Sees every operator that runs meanwhile. Missing: importing this fails, since torch's own tools rest on it as well.
DispatchMode = TorchDispatchMode


def apply_site() -> type:
    """The class on which an `apply` sees every call of every Function, bound methods taken earlier included.

    `exp = Exp.apply` keeps a bound `Function.apply` alive, so replacing that one is too late. It calls
    `super().apply`, which is looked up at each call: a class between `Function` and the engine's own base is
    the place to stand in. Without one, `Function` itself is; then only calls that look `apply` up from now
    on are seen.
    """
    between = torch.autograd.Function.__mro__[1]
    return between if "apply" not in vars(between) and between is not object else torch.autograd.Function


def backward_name(function_class: type) -> str:
    """`"backward"` or `"vjp"`: the static method the class overrides; the engine reads it at each
    backward."""
    base: Any = torch.autograd.Function
    overridden = getattr(function_class, "vjp", None) is not getattr(base, "vjp", None)
    return "vjp" if overridden else "backward"


def uses_setup_context(function_class: type) -> bool:
    """Whether `forward` takes no `ctx` because a `setup_context` follows it."""
    base: Any = torch.autograd.Function
    return getattr(function_class, "setup_context", None) is not getattr(base, "setup_context", None)


def in_transform() -> bool:
    """Whether a `torch.func` transform is running; then tensors are wrappers that cannot be copied."""
    active = getattr(torch._C, "_are_functorch_transforms_active", None)
    return bool(active()) if active is not None else False
