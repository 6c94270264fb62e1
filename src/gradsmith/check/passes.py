"""A `Pass`: one forward and what its backwards return, noted before the engine sums, casts and repairs it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from gradsmith.check._private import backward_name
from gradsmith.check.case import Case
from gradsmith.check.inputs import Tensors


@dataclass
class Raw:
    """What one call of `backward` was given and what it returned, before the engine touched it."""

    upstream: tuple[Any, ...]
    needs: tuple[bool, ...]
    returned: tuple[Any, ...]


@dataclass
class Pass:
    """One forward, and what is needed to go backward from it any number of times."""

    leaves: Tensors  # one an input; None where no gradient is asked for
    given: tuple[Any, ...]  # the very arguments of the call
    outputs: tuple[Any, ...]
    returned: Any = None  # what the call returned, containers and all
    raw: list[Raw] = field(default_factory=list)

    @property
    def differentiable(self) -> tuple[torch.Tensor, ...]:
        return tuple(out for out in self.outputs if isinstance(out, torch.Tensor) and out.requires_grad)


@contextmanager
def spied_on(case: Case, raw: list[Raw] | None) -> Iterator[None]:
    """Note what `backward` is given and returns; the engine looks it up on the class at each call."""
    cls: Any = case.function_class
    if cls is None or raw is None:
        yield
        return
    name = backward_name(cls)
    own = vars(cls).get(name)
    original = getattr(cls, name)

    def backward(ctx: Any, *upstream: Any) -> Any:
        returned = original(ctx, *upstream)
        if not raw:  # of the first backward alone: a graph may be gone through many times, and this keeps tensors
            answers = returned if isinstance(returned, tuple | list) else (returned,)
            raw.append(Raw(tuple(upstream), tuple(getattr(ctx, "needs_input_grad", ())), tuple(answers)))
        return returned

    setattr(cls, name, staticmethod(backward))
    try:
        yield
    finally:
        if own is None:
            delattr(cls, name)
        else:
            setattr(cls, name, own)
