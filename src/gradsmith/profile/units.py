"""Seconds and bytes as a person reads them."""

from __future__ import annotations

_TIMES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
_SIZES = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1, "B"))


def seconds(value: float) -> str:
    """Three digits and a unit.

    >>> seconds(0.01234), seconds(0.0)
    ('12.3 ms', '0 s')
    """
    return _scaled(value, _TIMES, "0 s")


def size(value: float) -> str:
    """Three digits and a unit.

    >>> size(524288000), size(12)
    ('500 MiB', '12.0 B')
    """
    return _scaled(value, _SIZES, "0 B")


def _scaled(value: float, units: tuple[tuple[float, str], ...], zero: str) -> str:
    for factor, unit in units:
        if value >= 0.9995 * factor:
            return f"{_digits(value / factor)} {unit}"
    return zero


def _digits(number: float) -> str:
    if number >= 99.95:
        return f"{number:.0f}"
    text = f"{number:.1f}" if number >= 9.995 else f"{number:.2f}"
    return text[:-3] if text.endswith(".00") else text
