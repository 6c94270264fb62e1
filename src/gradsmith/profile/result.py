"""What a profile found, as plain data."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gradsmith.profile.limit import Limit
from gradsmith.profile.machine import Machine
from gradsmith.profile.peak import Usage
from gradsmith.profile.saved import Saved
from gradsmith.profile.timing import Spread

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

SCHEMA = 1  # of `to_dict`; grows when a key is renamed or leaves


@dataclass(frozen=True)
class Measurement:
    """One contender. Times are seconds a call, sizes are bytes.

    `backward` is None where nothing required a gradient. `ratio` is how many times as long the reference took for
    forward and backward, the median over the rounds: 2 means twice as fast as the reference. `difference` is the
    greatest relative difference of its results from the reference's. Both are None without a reference.
    """

    name: str
    forward: Spread
    backward: Spread | None
    total: Spread
    saved: Saved
    usage: Usage
    ratio: float | None = None
    difference: float | None = None


@dataclass(frozen=True)
class Profile:
    """The result of `gs.profile`: print it for a table, `to_json` for machines.

    `measurements` has the function first, then the reference and the compiled reference. `rounds` is how many rounds
    the times rest on, `others` how many cores other processes used in them (None: cannot tell), `compiling` the
    seconds that compiling the reference took. `notes` says what was left out, and results that are not the same.
    """

    function: str
    inputs: str
    measurements: tuple[Measurement, ...]
    limit: Limit
    rounds: int
    others: float | None
    machine: Machine
    compiling: float | None = None
    notes: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Measurement:
        """The contender of that name: the function's own, "reference" or "compiled"."""
        for measurement in self.measurements:
            if measurement.name == name:
                return measurement
        raise KeyError(f"{name!r}; measured were {', '.join(repr(m.name) for m in self.measurements)}")

    @property
    def from_limit(self) -> float:
        """How many times as long as the limit of the machine the function takes; 1 cannot be beaten."""
        return self.measurements[0].total.median / self.limit.seconds if self.limit.seconds else float("inf")

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, with `schema`, and the limit's `seconds` and `bound` beside its parts."""
        limit = {**dataclasses.asdict(self.limit), "seconds": self.limit.seconds, "bound": self.limit.bound}
        return {"schema": SCHEMA, **dataclasses.asdict(self), "limit": limit, "from_limit": self.from_limit}

    def to_json(self) -> str:
        """`to_dict` as JSON text."""
        return json.dumps(self.to_dict(), indent=2)

    def __str__(self) -> str:
        from gradsmith.profile.table import render

        return render(self)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from gradsmith.profile.table import parts

        yield from parts(self)
