"""What the numbers of a profile were measured on."""

from __future__ import annotations

import platform
from dataclasses import dataclass

import torch

from gradsmith.memory import is_reusing_memory


@dataclass(frozen=True)
class Machine:
    """The processor or accelerator, the threads, the version of torch, and what happens to freed memory.

    `memory` is "recycled" where `gs.reuse_memory` holds, and "default" otherwise: on a CPU the two give quite
    different times, and only numbers of one kind compare.
    """

    name: str
    threads: int
    torch: str
    memory: str

    def __str__(self) -> str:
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return f"{self.name}, {threads}, torch {self.torch}, {self.memory} memory"


def this_machine(device: torch.device) -> Machine:
    """The machine that computes on `device`."""
    memory = "recycled" if is_reusing_memory() else "default"
    return Machine(_name(device), torch.get_num_threads(), torch.__version__, memory)


def _name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type != "cpu":
        return str(device)
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
