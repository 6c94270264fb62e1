"""The register of planted faults and clean twins.

A family of Functions stands in one file. `@fault(code, ...)` plants one that the battery must name,
`@clean(...)` one that it must leave alone. The axes: the code; the argument at fault; ctx style and
setup_context style; dtype; how many inputs and outputs there are.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

Inputs = Callable[[], tuple[Any, ...]]


@dataclass(frozen=True)
class Planted:
    """A Function, inputs for it, and the codes that must (one of them) be found; none for a clean one."""

    function: type[torch.autograd.Function]
    inputs: Inputs
    codes: tuple[str, ...] = ()
    argument: str | None = None
    also: tuple[str, ...] = ()  # errors and warnings that may come beside, because they follow from the fault
    says: str = ""  # a part of the message
    only: str | None = None  # a code that is looked for on request alone

    @property
    def name(self) -> str:
        return f"{self.function.__module__.split('.')[-1]}.{self.function.__name__}"


FAULTS: list[Planted] = []
CLEAN: list[Planted] = []


def fault(
    *codes: str,
    inputs: Inputs,
    argument: str | None = None,
    also: tuple[str, ...] = (),
    says: str = "",
    only: str | None = None,
) -> Callable[[type], type]:
    """Plant a Function that must be found under one of `codes`."""

    def plant(function: type) -> type:
        FAULTS.append(Planted(function, inputs, codes, argument, also, says, only))
        return function

    return plant


def clean(*notes: str, inputs: Inputs, also: tuple[str, ...] = (), only: str | None = None) -> Callable[[type], type]:
    """Plant a Function that must give no error and no warning; `notes` are codes that it must give."""

    def plant(function: type) -> type:
        CLEAN.append(Planted(function, inputs, notes, also=also, only=only))
        return function

    return plant


class SaveInput(torch.autograd.Function):
    """In setup_context style: keeps every tensor that it is given."""

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*(x for x in inputs if isinstance(x, torch.Tensor)))


def rand(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    """Normal values that require a gradient; the same for the same arguments."""
    generator = torch.Generator().manual_seed(seed + sum(shape) * 7)
    return torch.randn(*shape, dtype=dtype, generator=generator).requires_grad_()


def positive(*shape: int, seed: int = 0) -> torch.Tensor:
    """Values between 0.5 and 2 that require a gradient."""
    generator = torch.Generator().manual_seed(seed + sum(shape) * 7)
    return (torch.rand(*shape, generator=generator) * 1.5 + 0.5).requires_grad_()


def load() -> None:
    """Import every family, which fills the register."""
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if module.name not in ("registry",) and not module.name.startswith("test_"):
            importlib.import_module(module.name)
