"""A `Specimen`: a correct Function, and inputs to call it with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch

Inputs = Callable[[int], tuple[Any, ...]]

SPECIMENS: list[Specimen] = []


@dataclass(frozen=True)
class Specimen:
    """`inputs(draw)` are other values for each draw, and of other sizes from draw 3 on.

    `reference` is a plain function of the same arguments. Without one the forward itself is, run without autograd's
    help: the corpus is written so that torch can differentiate it.
    """

    function: type[torch.autograd.Function]
    inputs: Inputs
    reference: Callable[..., Any] | None = None

    @property
    def name(self) -> str:
        return self.function.__name__

    @property
    def plain(self) -> Callable[..., Any]:
        if self.reference is not None:
            return self.reference
        forward: Any = self.function.forward
        if "setup_context" in vars(self.function):
            return forward
        return lambda *arguments: forward(_Deaf(), *arguments)


class _Deaf(SimpleNamespace):
    """A `ctx` that keeps nothing."""

    def save_for_backward(self, *tensors: Any) -> None: ...

    def mark_non_differentiable(self, *tensors: Any) -> None: ...


def specimen(inputs: Inputs, reference: Callable[..., Any] | None = None) -> Callable[[type], type]:
    """Enter a Function into the corpus."""

    def enter(function: type) -> type:
        SPECIMENS.append(Specimen(function, inputs, reference))
        return function

    return enter


def rand(draw: int, *shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> torch.Tensor:
    """Normal values that require a gradient; the same for the same arguments."""
    generator = torch.Generator().manual_seed(1000 * draw + 31 * seed + sum(shape))
    return torch.randn(*shape, dtype=dtype, generator=generator).requires_grad_()


def positive(draw: int, *shape: int, seed: int = 0) -> torch.Tensor:
    """Values from 0.5 to 2 that require a gradient."""
    generator = torch.Generator().manual_seed(1000 * draw + 31 * seed + sum(shape))
    return (torch.rand(*shape, dtype=torch.float64, generator=generator) * 1.5 + 0.5).requires_grad_()


def indices(draw: int, high: int, *shape: int) -> torch.Tensor:
    """Whole numbers from 0 to `high` - 1."""
    return torch.randint(high, shape, generator=torch.Generator().manual_seed(7 + draw))


def larger(draw: int) -> int:
    """How much a size grows in this draw."""
    return max(0, draw - 2)
