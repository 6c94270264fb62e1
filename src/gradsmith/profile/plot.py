"""A sweep as a picture: time, memory, and the distance from what the machine allows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradsmith.profile import units
from gradsmith.profile.result import Measurement, Profile
from gradsmith.profile.work import ProfileError

if TYPE_CHECKING:
    from gradsmith.profile.sizes import Sweep

# Told apart without colours, too: by marker and line.
_STYLES: Sequence[dict[str, Any]] = (
    {"color": "#0b6e99", "marker": "o", "linestyle": "-", "linewidth": 2},
    {"color": "#c4501b", "marker": "s", "linestyle": "--"},
    {"color": "#6b6b6b", "marker": "^", "linestyle": ":"},
)


def plot(sweep: Sweep, path: Path) -> None:
    """Draw three panels over the size and write them to `path`.

    Raises:
        ProfileError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ProfileError("sweep: plots need matplotlib: pip install 'gradsmith[plot]'") from error
    figure = Figure(figsize=(12, 4), layout="constrained")
    FigureCanvasAgg(figure)
    time, memory, distance = figure.subplots(1, 3)
    sizes, profiles = list(sweep.profiles), list(sweep.profiles.values())
    _curves(time, sizes, profiles, lambda _, m: m.total.median, band=True)
    time.plot(sizes, [p.limit.seconds for p in profiles], color="black", linewidth=1, label="limit of the machine")
    _curves(memory, sizes, profiles, lambda _, m: m.usage.peak)
    _curves(distance, sizes, profiles, lambda p, m: m.total.median / p.limit.seconds)
    distance.axhline(1, color="black", linewidth=1, label="limit of the machine")
    _dress(time, "time, forward and backward", sizes, units.seconds)
    _dress(memory, "peak memory", sizes, units.size, base=2)
    _dress(distance, "times the limit", sizes, lambda value: f"{value:g}×")
    first = profiles[0]
    figure.suptitle(f"{sweep.function}    {first.machine}", fontsize=11)
    figure.savefig(path, dpi=120)


def _curves(
    axes: Any,
    sizes: Sequence[int],
    profiles: Sequence[Profile],
    value: Callable[[Profile, Measurement], float],
    band: bool = False,
) -> None:
    """A line for each contender, where it was measured; with `band`, the quartiles of its time around it."""
    names = list(dict.fromkeys(m.name for p in profiles for m in p.measurements))
    for name, style in zip(names, _STYLES, strict=False):
        points = [(n, p, m) for n, p in zip(sizes, profiles, strict=True) for m in p.measurements if m.name == name]
        at = [n for n, _, _ in points]
        axes.plot(at, [value(p, m) for _, p, m in points], label=name, markersize=5, **style)
        if band:
            low, high = [m.total.low for _, _, m in points], [m.total.high for _, _, m in points]
            axes.fill_between(at, low, high, color=style["color"], alpha=0.2, linewidth=0)


def _dress(axes: Any, title: str, sizes: Sequence[int], unit: Callable[[float], str], base: int = 10) -> None:
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axes.set_xscale("log")
    axes.set_yscale("log", base=base)
    axes.set_xticks(sizes, labels=[f"{size:,}" for size in sizes], rotation=30)
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_title(title, fontsize=10)
    axes.set_xlabel("n")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda tick, _: unit(tick)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(True, which="major", alpha=0.3)
    axes.legend(fontsize=8, frameon=False)
