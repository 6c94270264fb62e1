"""`sweep`: the same profile over a range of sizes, to see where the cost of a call ends and that of the work begins."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradsmith.profile.measure import profile
from gradsmith.profile.result import SCHEMA, Profile
from gradsmith.profile.work import ProfileError

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult


@dataclass(frozen=True)
class Sweep:
    """A `Profile` for each size: print it for a table, `plot` it, `to_json` for machines."""

    profiles: Mapping[int, Profile]

    @property
    def function(self) -> str:
        return next(iter(self.profiles.values())).function

    @property
    def notes(self) -> tuple[str, ...]:
        """Those of all profiles, each with its size."""
        return tuple(f"n = {size}: {note}" for size, found in self.profiles.items() for note in found.notes)

    def plot(self, path: str | Path) -> None:
        """Write a picture (PNG, SVG or PDF, by the name) of time, memory and distance from the machine's limit.

        Raises:
            ProfileError: matplotlib is not installed.
        """
        from gradsmith.profile.plot import plot

        plot(self, Path(path))

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values."""
        return {
            "schema": SCHEMA,
            "function": self.function,
            "profiles": [{"n": size, **found.to_dict()} for size, found in self.profiles.items()],
        }

    def to_json(self) -> str:
        """`to_dict` as JSON text."""
        return json.dumps(self.to_dict(), indent=2)

    def __str__(self) -> str:
        from gradsmith.profile.table import render

        return render(self)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from gradsmith.profile.table import sweep_parts

        yield from sweep_parts(self)


def sweep(
    fn: Callable[..., Any],
    make_inputs: Callable[[int], Any],
    sizes: Sequence[int],
    reference: Callable[..., Any] | None = None,
    *,
    kwargs: Mapping[str, Any] | None = None,
    compiled: bool = True,
    seconds: float = 3.0,
    before: Callable[[int], None] | None = None,
) -> Sweep:
    """Profile `fn(*make_inputs(n))` for every n of `sizes`, each as `gs.profile` does.

    Args:
        make_inputs: a size to the positional arguments, of which some require a gradient.
        sizes: positive integers, at least one.
        before: called with each size before it is measured, to show progress.
        fn, reference, kwargs, compiled, seconds: as for `gs.profile`; the seconds are those of one size.

    Raises:
        ProfileError: there are no sizes, or one is not positive; and what `gs.profile` raises.

    >>> import torch, gradsmith as gs
    >>> def inputs(n): return (torch.randn(n, requires_grad=True),)
    >>> found = gs.sweep(gs.exp, inputs, [100, 10_000, 1_000_000], torch.exp)     # doctest: +SKIP
    >>> found.plot("exp.png")                                                     # doctest: +SKIP
    """
    if not sizes or min(sizes) < 1:
        raise ProfileError(f"sweep: sizes must be positive and at least one, got {list(sizes)}")
    profiles = {}
    for size in sorted(set(sizes)):
        if before is not None:
            before(size)
        profiles[size] = profile(fn, make_inputs(size), reference, kwargs=kwargs, compiled=compiled, seconds=seconds)
    return Sweep(profiles)
