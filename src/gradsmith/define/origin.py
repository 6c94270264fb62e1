"""Where a generated Function comes from: what a checker or a debugger may read from `Function.__gradsmith__`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Origin:
    """The author's side of a generated `torch.autograd.Function`."""

    name: str
    forward: Callable[..., Any]  # the author's own function
    argument_names: tuple[str, ...]  # one per argument of `apply`: "weight", "params['w']"
    formulas: Mapping[str, Callable[..., Any]]  # argument -> formula
    once: bool = False
    author_class: type | None = None  # the class that the author wrote, in the class style
    call: Callable[..., Any] | None = None  # the Function as its author sees it: these arguments in, tensors out
    surrogate: Callable[..., Any] | None = None  # the function whose derivative the backward is declared to be
    declared: str | None = None  # "surrogate", "straight-through", "modifier"

    def locate(self, argument: str) -> Callable[..., Any]:
        """The code that computes the gradient of an argument, for a message to point at."""
        owner = argument.split("[")[0].split(".")[0]
        return self.formulas.get(owner, self.forward)
