"""What a call costs where nothing but the call counts: small tensors, forward and backward, and under each transform.

    python benchmarks/call_overhead.py [--rounds N] [--json]

Three parts: exp of eight elements in six ways; a dict of ten tensors in and a dict of ten out, against a hand-written
Function that takes and returns them one by one; and exp under the transforms of torch.func and torch.compile. Every
part has its own baseline, a hand-written torch.autograd.Function. The contenders take turns in every round, in
reversed order every other time; medians of all rounds are printed, with the spread, and the median of the ratios to the
baseline within each round. Run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, func

import gradsmith as gs

CALLS = 100  # in one round, for each contender
Call = Callable[[], Any]
Group = dict[str, Call]  # the first one is the baseline

exp = gs.op(torch.exp, x=lambda grad, out: grad * out)


def context_style(base: type) -> Any:
    """exp as the tutorials write it, as a subclass of `base`."""

    def forward(ctx: Any, x: Tensor) -> Tensor:
        out = torch.exp(x)
        ctx.save_for_backward(out)
        return out

    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (out,) = ctx.saved_tensors
        return grad * out

    return type("Exp", (base,), {"forward": staticmethod(forward), "backward": staticmethod(backward)}).apply  # type: ignore[attr-defined]


class SetupStyle(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.exp(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(output)
        ctx.save_for_forward(output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (out,) = ctx.saved_tensors
        return grad * out

    jvp = backward


@torch.library.custom_op("gradsmith_benchmark::exp", mutates_args=())
def library_exp(x: Tensor) -> Tensor:
    return torch.exp(x)


library_exp.register_autograd(
    lambda ctx, grad: grad * ctx.saved_tensors[0],
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(output),
)


@gs.op(tensors=lambda grad, out: {name: grad[name] * out[name] for name in grad})
def exp_each(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.exp() for name, tensor in tensors.items()}


class ExpTen(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *tensors: Tensor) -> tuple[Tensor, ...]:
        outs = tuple(tensor.exp() for tensor in tensors)
        ctx.save_for_backward(*outs)
        return outs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        return tuple(grad * out for grad, out in zip(grads, ctx.saved_tensors, strict=True))


def one_tensor() -> Group:
    x, upstream = torch.randn(8, requires_grad=True), torch.ones(8)
    functions: dict[str, Callable[[Tensor], Tensor]] = {
        "autograd.Function, ctx style": context_style(torch.autograd.Function),
        "gs.op": exp,
        "gs.Function": context_style(gs.Function),
        "autograd.Function, setup_context": SetupStyle.apply,
        "torch.library.custom_op": library_exp,
        "torch.exp": torch.exp,
    }
    return {name: lambda f=f: torch.autograd.grad(f(x), x, upstream) for name, f in functions.items()}  # type: ignore[misc]


def ten_tensors() -> Group:
    tensors = {f"tensor {i}": torch.randn(8, requires_grad=True) for i in range(10)}
    leaves, upstream = list(tensors.values()), [torch.ones(8)] * 10
    return {
        "autograd.Function, one by one": lambda: torch.autograd.grad(ExpTen.apply(*leaves), leaves, upstream),  # type: ignore[no-untyped-call]
        "gs.op, a dict": lambda: torch.autograd.grad(list(exp_each(tensors).values()), leaves, upstream),
    }


TRANSFORMS: dict[str, Callable[[Callable[[Tensor], Tensor]], Callable[[Tensor], Any]]] = {
    "func.grad": lambda f: func.grad(lambda x: f(x).sum()),
    "vmap": lambda f: func.vmap(f),
    "vmap(grad)": lambda f: func.vmap(func.grad(f)),
    "func.jvp": lambda f: lambda x: func.jvp(f, (x,), (x,)),
    "jacrev": lambda f: func.jacrev(f),
    "jacfwd": lambda f: func.jacfwd(f),
    "hessian": lambda f: func.jacrev(func.jacrev(lambda x: f(x).sum())),
    "torch.compile": lambda f: torch.compile(lambda x: f(x) + 1, fullgraph=True),
}


def under(transform: Callable[[Callable[[Tensor], Tensor]], Callable[[Tensor], Any]]) -> Group:
    x = torch.randn(8)
    plain, ours = transform(SetupStyle.apply), transform(exp)
    return {"autograd.Function, setup_context": lambda: plain(x), "gs.op": lambda: ours(x)}


@dataclass(frozen=True)
class Row:
    """Microseconds a call: the median and the interquartile range; and the ratio to the baseline of the group."""

    median: float
    spread: float
    ratio: float


def cost(call: Call) -> float:
    """Microseconds."""
    start = time.perf_counter()
    for _ in range(CALLS):
        call()
    return (time.perf_counter() - start) / CALLS * 1e6


def measure(group: Group, rounds: int, title: str) -> dict[str, Row]:
    for call in group.values():
        cost(call)
    names = list(group)
    times: dict[str, list[float]] = {name: [] for name in names}
    console = Console(stderr=True)
    for index in track(range(rounds), title, console=console, disable=not console.is_terminal, transient=True):
        for name in names[:: -1 if index % 2 else 1]:
            times[name].append(cost(group[name]))
    rows = {}
    for name, each in times.items():
        quarters = statistics.quantiles(each, n=4)
        ratios = [own / base for own, base in zip(each, times[names[0]], strict=True)]
        rows[name] = Row(statistics.median(each), quarters[2] - quarters[0], statistics.median(ratios))
    return rows


def table(results: dict[str, dict[str, Row]]) -> Table:
    shown = Table("call", "µs", "spread", "ratio")
    for column in shown.columns[1:]:
        column.justify = "right"
    for title, rows in results.items():
        shown.add_row(f"[bold]{title}")
        for name, row in rows.items():
            shown.add_row(f"  {name}", f"{row.median:.1f}", f"{row.spread:.1f}", f"{row.ratio:.2f}")
        shown.add_section()
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=101)
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    options = parser.parse_args()
    if options.rounds < 2:
        parser.error("--rounds must be 2 or more: a spread needs two values")
    torch.set_num_threads(1)
    groups = {
        "exp of 8 elements, forward and backward": one_tensor(),
        "exp of ten tensors of 8 elements, forward and backward": ten_tensors(),
        **{f"exp of 8 elements, {name}": under(transform) for name, transform in TRANSFORMS.items()},
    }
    results = {title: measure(group, options.rounds, title) for title, group in groups.items()}
    if options.json:
        print(json.dumps({t: {name: vars(row) for name, row in rows.items()} for t, rows in results.items()}, indent=2))
    else:
        Console().print(table(results))


if __name__ == "__main__":
    main()
