"""A profile as a table for 80 columns."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from gradsmith.profile import units
from gradsmith.profile.result import Measurement, Profile
from gradsmith.profile.timing import QUIET, Spread

if TYPE_CHECKING:
    from gradsmith.profile.sizes import Sweep

WIDTH = 80


def render(result: Profile | Sweep) -> str:
    """The table as plain text."""
    text = io.StringIO()
    Console(width=WIDTH, color_system=None, force_terminal=False, file=text).print(result)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def parts(profile: Profile) -> Iterator[RenderableType]:
    """What a console prints of a profile, from top to bottom."""
    yield Text.assemble((profile.function, "bold"), "  ", profile.inputs)
    yield _table(profile)
    yield Text(_footer(profile), "dim")
    for note in (*profile.notes, *_doubts([profile])):
        yield Text(f"note: {note}", "yellow")


def sweep_parts(sweep: Sweep) -> Iterator[RenderableType]:
    """What a console prints of a sweep: a row a size, the contenders side by side."""
    first = next(iter(sweep.profiles.values()))
    names = list(dict.fromkeys(m.name for found in sweep.profiles.values() for m in found.measurements))
    compared = "reference" in names
    table = Table(box=None, padding=(0, 0, 0, 2), pad_edge=False, header_style="bold")
    titles = ["n", *names, "limit", *(["speed"] if compared else []), "peak", *(["/ ref."] if compared else [])]
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    for size, found in sweep.profiles.items():
        table.add_row(str(size), *_sweep_row(found, names))
    yield Text.assemble((sweep.function, "bold"), "  forward and backward")
    yield table
    yield Text(str(first.machine), "dim")
    for note in (*sweep.notes, *_doubts(list(sweep.profiles.values()))):
        yield Text(f"note: {note}", "yellow")


def _sweep_row(found: Profile, names: list[str]) -> list[str]:
    measured = {m.name: m for m in found.measurements}
    own = found.measurements[0]
    cells = [units.seconds(measured[name].total.median) if name in measured else "-" for name in names]
    cells.append(units.seconds(found.limit.seconds))
    if own.ratio is not None:
        cells.append(f"{own.ratio:.2f}×")
    cells.append(units.size(own.usage.peak))
    if own.ratio is not None:
        theirs = measured["reference"].usage.peak
        cells.append(f"{own.usage.peak / theirs:.0%}" if theirs else "-")
    return cells


def _table(profile: Profile) -> Table:
    compared = len(profile.measurements) > 1
    table = Table(box=None, padding=(0, 0, 0, 2), pad_edge=False, header_style="bold")
    table.add_column("")
    titles = ["forward", "backward", "both", "±", *(["speed"] if compared else []), "saved", "peak", "ops"]
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    for number, measurement in enumerate(profile.measurements):
        table.add_row(*_row(measurement, compared), style="" if number else "bold")
    limit = profile.limit
    cells = [f"limit ({limit.bound})", "", "", units.seconds(limit.seconds), ""]
    table.add_row(*cells, style="dim")
    return table


def _row(found: Measurement, compared: bool) -> list[str]:
    speed = [f"{found.ratio:.2f}×"] if compared and found.ratio is not None else []
    return [
        found.name,
        units.seconds(found.forward.median),
        "-" if found.backward is None else units.seconds(found.backward.median),
        units.seconds(found.total.median),
        _spread(found.total),
        *speed,
        units.size(found.saved.total),
        units.size(found.usage.peak),
        str(found.usage.operators),
    ]


def _spread(spread: Spread) -> str:
    """Half the distance of the quartiles, in percent of the median."""
    return f"{50 * (spread.high - spread.low) / spread.median:.0f}%" if spread.median else ""


def _footer(profile: Profile) -> str:
    first, limit = profile.measurements[0], profile.limit
    work = (
        f"{limit.flops / 1e9:.3g} GFLOP to multiply"
        if limit.bound == "matmul"
        else f"{units.size(limit.bytes)} to move"
    )
    lines = [f"{first.name} takes {profile.from_limit:.3g} times the machine's limit ({work})"]
    if first.difference is not None:
        apart = f"are within {first.difference:.1g} of" if first.difference else "equal"
        lines.append(f"its results {apart} the reference's")
    if profile.compiling is not None:
        lines.append(f"compiling the reference took {units.seconds(profile.compiling)}, not counted")
    lines.append(f"{profile.machine}, {profile.rounds} rounds")
    return "\n".join(lines)


def _doubts(profiles: list[Profile]) -> list[str]:
    """What makes the times doubtful."""
    known = [profile.others for profile in profiles if profile.others is not None]
    if not known:
        return ["this system does not tell whether other processes were busy"]
    if max(known) > QUIET:
        return [f"other processes used {max(known):.1f} cores meanwhile: trust the ratios more than the times"]
    return []
