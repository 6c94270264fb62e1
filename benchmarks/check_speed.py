"""What a check costs: beside gradcheck, and as the inputs grow from a hundred elements to ten million.

    python benchmarks/check_speed.py [--most ELEMENTS] [--json]

Three questions, answered in one run. How long does the whole battery take (every check but torch.compile's) beside
`torch.autograd.gradcheck` in its slow mode? How does it grow beside forward and backward of the same Function in the
precision it is checked in, float64? And how much memory does a check take beside them? Memory is the largest resident
set of a process of its own. Times are of the processor, in one thread, so that other work on the machine counts little;
those of forward and backward are medians, and a check and gradcheck are run once, after a warm-up on a small input.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

import gradsmith as gs


class Logsumexp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        out = torch.logsumexp(x, -1)
        ctx.save_for_backward(x, out)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        x, out = ctx.saved_tensors
        return grad.unsqueeze(-1) * (x - out.unsqueeze(-1)).exp()


class Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return x @ weight.mT + bias

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        needs = ctx.needs_input_grad
        rows = grad.reshape(-1, grad.shape[-1])
        return (
            grad @ weight if needs[0] else None,
            rows.mT @ x.reshape(-1, x.shape[-1]) if needs[1] else None,
            rows.sum(0) if needs[2] else None,
        )


class Matmul(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor) -> Tensor:
        ctx.save_for_backward(left, right)
        return left @ right

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        left, right = ctx.saved_tensors
        return grad @ right.mT if ctx.needs_input_grad[0] else None, left.mT @ grad if ctx.needs_input_grad[1] else None


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


BESIDE_GRADCHECK: dict[str, tuple[Any, tuple[Tensor, ...]]] = {
    "logsumexp 5 x 7": (Logsumexp, (normal(5, 7),)),
    "linear 16 x 32, 8 x 32": (Linear, (normal(16, 32), normal(8, 32), normal(8))),
    "matmul 64 x 64": (Matmul, (normal(64, 64), normal(64, 64))),
}
GROWING: dict[str, tuple[Any, Callable[[int], tuple[Tensor, ...]]]] = {
    "logsumexp": (Logsumexp, lambda count: (normal(count // 100, 100),)),
    "linear": (Linear, lambda count: (normal(count // 100, 100), normal(50, 100), normal(50))),
}
SIZES = tuple(10**power for power in range(2, 8))


def seconds(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def forward_and_backward(function: Any, inputs: tuple[Tensor, ...]) -> None:
    torch.autograd.grad(function.apply(*inputs).sum(), inputs)


def beside_gradcheck(name: str) -> dict[str, Any]:
    function, inputs = BESIDE_GRADCHECK[name]
    ours = seconds(lambda: gs.check(function, inputs))
    theirs = seconds(lambda: torch.autograd.gradcheck(function.apply, inputs))
    return {"case": name, "check": ours, "gradcheck": theirs, "ratio": ours / theirs}


def growing(name: str, count: int) -> dict[str, Any]:
    function, make = GROWING[name]
    inputs = make(count)
    once = statistics.median(seconds(lambda: forward_and_backward(function, inputs)) for _ in range(7))
    check = seconds(lambda: gs.check(function, inputs))
    own, whole = (peak(name, count, what) for what in ("call", "check"))
    return {
        "case": name, "elements": count, "forward and backward": once, "check": check, "passes": check / once,
        "memory": own, "memory of check": whole,
    }  # fmt: skip


def peak(name: str, count: int, what: str) -> float:
    """MiB that a call or a check takes, in a process of its own, over what it takes on a hundred elements."""
    command = [sys.executable, __file__, "--peak", name, str(count), what]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def print_peak(name: str, count: int, what: str) -> None:
    function, make = GROWING[name]
    run = forward_and_backward if what == "call" else gs.check
    before = 0.0
    for elements in (100, count):
        run(function, make(elements))
        status = Path("/proc/self/status").read_text()  # ru_maxrss is inherited from the parent
        now = int(status.split("VmHWM:")[1].split()[0]) / 1024
        before, taken = now, now - before
    print(taken)


def show(document: dict[str, list[dict[str, Any]]]) -> None:
    console = Console()
    table = Table("case", "gs.check", "gradcheck, slow mode", "ratio", title="The whole battery beside gradcheck")
    for row in document["beside gradcheck"]:
        table.add_row(row["case"], f"{row['check']:.2f} s", f"{row['gradcheck']:.2f} s", f"{row['ratio']:.2f}")
    console.print(table)
    table = Table(
        "case", "elements", "forward and backward", "gs.check", "of forward and backward", "memory of one",
        "memory of gs.check", title="As the inputs grow",
    )  # fmt: skip
    for row in document["growing"]:
        table.add_row(
            row["case"], f"{row['elements']:,}", f"{1e3 * row['forward and backward']:.2f} ms", f"{row['check']:.2f} s",
            f"{row['passes']:,.0f}", f"{row['memory']:.0f} MiB", f"{row['memory of check']:.0f} MiB",
        )  # fmt: skip
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, default=SIZES[-1], help="elements of the largest input")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--peak", nargs=3, metavar=("CASE", "ELEMENTS", "WHAT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    if options.peak:
        print_peak(options.peak[0], int(options.peak[1]), options.peak[2])
        return
    progress = Console(stderr=True)
    cases = [(name, count) for name in GROWING for count in SIZES if count <= options.most]
    gs.check(Logsumexp, (normal(2, 3),))
    document = {
        "beside gradcheck": [beside_gradcheck(name) for name in track(BESIDE_GRADCHECK, console=progress)],
        "growing": [growing(*case) for case in track(cases, console=progress)],
    }
    print(json.dumps(document, indent=2)) if options.json else show(document)


if __name__ == "__main__":
    main()
