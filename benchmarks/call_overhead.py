"""What a call costs: forward and backward on eight elements, where nothing but the call counts.

    python benchmarks/call_overhead.py [--rounds N] [--json]

The same function, exp, in six ways: an op, gradsmith's class style, a hand-written torch.autograd.Function in ctx
style and in setup_context style, a torch.library operator, and plain torch.exp. The contenders take turns in every
round, in reversed order every other time, and the median of all rounds is printed, with the spread and the ratio to the
hand-written ctx style. Run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

import gradsmith as gs

CALLS = 200  # in one round, for each contender
BASELINE = "autograd.Function, ctx style"

op = gs.op(torch.exp, x=lambda grad, out: grad * out)


class ContextStyle(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        out = torch.exp(x)
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (out,) = ctx.saved_tensors
        return grad * out


class SetupStyle(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.exp(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (out,) = ctx.saved_tensors
        return grad * out


class ClassStyle(gs.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        out = torch.exp(x)
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (out,) = ctx.saved_tensors
        return grad * out


@torch.library.custom_op("gradsmith_benchmark::exp", mutates_args=())
def library_exp(x: Tensor) -> Tensor:
    return torch.exp(x)


library_exp.register_autograd(
    lambda ctx, grad: grad * ctx.saved_tensors[0],
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(output),
)

CONTENDERS: dict[str, Callable[[Tensor], Tensor]] = {
    "gs.op": op,
    "gs.Function": ClassStyle.apply,
    BASELINE: ContextStyle.apply,
    "autograd.Function, setup_context": SetupStyle.apply,
    "torch.library.custom_op": library_exp,
    "torch.exp": torch.exp,
}


def forward_cost(function: Callable[[Tensor], Tensor], x: Tensor) -> float:
    """Microseconds for one forward call."""
    start = time.perf_counter()
    for _ in range(CALLS):
        function(x)
    return (time.perf_counter() - start) / CALLS * 1e6


def backward_cost(function: Callable[[Tensor], Tensor], x: Tensor) -> float:
    """Microseconds for one backward call; the forwards are not counted."""
    outs = [function(x) for _ in range(CALLS)]
    upstream = torch.ones_like(x)
    start = time.perf_counter()
    for out in outs:
        torch.autograd.grad(out, x, upstream)
    return (time.perf_counter() - start) / CALLS * 1e6


def measure(rounds: int) -> dict[str, dict[str, list[float]]]:
    """Microseconds of every round, by contender and by direction."""
    x = torch.randn(8, requires_grad=True)
    times: dict[str, dict[str, list[float]]] = {name: {"forward": [], "backward": []} for name in CONTENDERS}
    console = Console(stderr=True)
    for index in track(
        range(rounds + 1), "measuring", console=console, disable=not console.is_terminal, transient=True
    ):
        for name in list(CONTENDERS)[:: -1 if index % 2 else 1]:
            forward, backward = forward_cost(CONTENDERS[name], x), backward_cost(CONTENDERS[name], x)
            if index:  # the first round warms up
                times[name]["forward"].append(forward)
                times[name]["backward"].append(backward)
    return times


def summary(times: dict[str, dict[str, list[float]]]) -> dict[str, dict[str, float]]:
    """Medians, the interquartile range of the sum, and the median of the ratios within each round."""
    totals = {
        name: [f + b for f, b in zip(each["forward"], each["backward"], strict=True)] for name, each in times.items()
    }
    result = {}
    for name, each in times.items():
        quarters = statistics.quantiles(totals[name], n=4)
        ratios = [own / base for own, base in zip(totals[name], totals[BASELINE], strict=True)]
        result[name] = {
            "forward_us": statistics.median(each["forward"]),
            "backward_us": statistics.median(each["backward"]),
            "total_us": statistics.median(totals[name]),
            "spread_us": quarters[2] - quarters[0],
            "ratio": statistics.median(ratios),
        }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=101)
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    options = parser.parse_args()
    if options.rounds < 2:
        parser.error("--rounds must be 2 or more: a spread needs two values")
    torch.set_num_threads(1)
    rows = summary(measure(options.rounds))
    if options.json:
        print(json.dumps(rows, indent=2))
        return
    table = Table("call", title="exp of 8 elements, microseconds per call")
    for heading in ("forward", "backward", "both", "spread", "to ctx style"):
        table.add_column(heading, justify="right")
    for name, row in rows.items():
        values = (row[key] for key in ("forward_us", "backward_us", "total_us", "spread_us"))
        table.add_row(name, *[f"{value:.1f}" for value in values], f"{row['ratio']:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
