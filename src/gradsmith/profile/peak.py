"""The most memory that a forward and backward hold at once, and how often they ask for some."""

from __future__ import annotations

import itertools
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity

from gradsmith.profile.work import Work

_CPU = 0  # the number of the device type in the trace
_CPU_ACTIVITY = ProfilerActivity.CPU


@dataclass(frozen=True)
class Usage:
    """One forward and backward.

    `peak` is the most bytes held at once beyond those before the call; outputs and gradients count, arguments do not.
    `allocations` is how many blocks were asked for, `operators` how many operators ran, those inside others included:
    what every call costs, however small its tensors.
    """

    peak: int
    allocations: int
    operators: int


def usage(work: Work) -> Usage:
    """Run `work` once under torch's profiler, which sees every block that tensors are given.

    Exact and the same in every run, since it reads torch's allocator and not the system's counters. Memory that native
    code takes from elsewhere is not seen. The profiler sees one thread, so the blocks that our ops compute side by side
    are computed one after the other here: each thread more takes the few MiB of a block beyond `peak`.
    """
    events, accelerator_peak = _profiled(work)
    sizes = [event["args"]["Bytes"] for event in events if _is_memory(event, work)]
    held = itertools.accumulate(sizes, initial=0)
    return Usage(
        peak=max(held) if accelerator_peak is None else accelerator_peak,
        allocations=sum(size > 0 for size in sizes),
        operators=sum(_is_operator(event) for event in events),
    )


def _is_memory(event: dict[str, Any], work: Work) -> bool:
    """Whether a block was given (positive bytes) or taken back on the device of the work."""
    on_cpu = event.get("name") == "[memory]" and event["args"]["Device Type"] == _CPU
    return on_cpu if work.device.type == "cpu" else event.get("name") == "[memory]" and not on_cpu


def _is_operator(event: dict[str, Any]) -> bool:
    return event.get("cat") == "cpu_op" and "::" in event["name"] and "autograd::" not in event["name"]


def _profiled(work: Work) -> tuple[list[dict[str, Any]], int | None]:
    """The profiler's events in the order of time, and the peak as an accelerator's own allocator counts it."""
    activities = [a for a in torch.profiler.supported_activities() if work.device.type != "cpu" or a == _CPU_ACTIVITY]
    accelerator = work.device.type not in ("cpu", "meta")
    profiler = torch.profiler.profile(activities=activities, profile_memory=True)
    with _standard_error_aside():
        profiler.start()
    before = 0
    if accelerator:
        torch.accelerator.reset_peak_memory_stats(work.device)
        before = torch.accelerator.memory_allocated(work.device)
    work.run()
    work.synchronize()
    peak = torch.accelerator.max_memory_allocated(work.device) - before if accelerator else None
    with _standard_error_aside():
        profiler.stop()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "trace.json")
        profiler.export_chrome_trace(str(file))
        events: list[dict[str, Any]] = json.loads(file.read_text())["traceEvents"]
    return sorted(events, key=lambda event: event.get("ts", 0)), peak


@contextmanager
def _standard_error_aside() -> Iterator[None]:
    """Without the lines that some builds of the profiler print from C++ when it starts and stops."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
