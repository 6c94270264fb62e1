"""How many cores the other processes of the machine use: what tells a measurement from an accident."""

from __future__ import annotations

import os
import time


class Load:
    """Counts from its creation on.

    >>> load = Load()
    >>> used = load.others()   # cores, on average since then; None where the system does not tell
    """

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._machine = _machine_seconds()
        self._own = _own_seconds()

    def others(self) -> float | None:
        now = _machine_seconds()
        elapsed = time.perf_counter() - self._start
        if self._machine is None or now is None or elapsed <= 0:
            return None
        return max(0.0, (now - self._machine) - (_own_seconds() - self._own)) / elapsed


def _own_seconds() -> float:
    times = os.times()
    return times.user + times.system


def _machine_seconds() -> float | None:
    """Processor seconds that were not idle, of all cores since the start; Linux only."""
    try:
        with open("/proc/stat", encoding="ascii") as stat:
            fields = [int(field) for field in stat.readline().split()[1:]]
    except (OSError, ValueError):
        return None
    user, nice, system, _idle, _waiting, irq, softirq, steal = fields[:8]
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
