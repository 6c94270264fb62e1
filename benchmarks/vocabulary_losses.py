"""Losses over a vocabulary, forward and backward: time and peak memory beside torch's own, in two regimes of memory.

    python benchmarks/vocabulary_losses.py [CASE ...] [--seconds S] [--busy] [--no-compile] [--scale K] [--json]

Every case runs in two processes of its own: "default" with the C library's allocator as it is, "recycled" with freed
memory used again (gs.reuse_memory), which speeds up torch as well. All contenders of a case take turns in every round;
the ratios are medians of the rounds. The peak is what torch's allocator gave beyond the arguments. With --busy another
process computes all the while. torch.compile takes part, and cut-cross-entropy where it is installed. The case "limit"
runs a vocabulary of 256,000 classes under 4 GiB of address space.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from contenders import DTYPES, REGIMES, TorchOps, busy, counted
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional

import gradsmith as gs
from gradsmith import native
from gradsmith.profile.peak import usage
from gradsmith.profile.work import Work

ROWS, FEATURES, CLASSES = 4096, 1024, 32000
CASES = tuple(f"{loss}-{dtype}" for dtype in DTYPES for loss in ("cross_entropy", "linear_cross_entropy"))


class Produce(torch.autograd.Function):
    """Logits that are no leaf and cost nothing: the memory that the loss before has overwritten."""

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, memory: Tensor) -> Tensor:
        return memory.detach()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return torch.zeros(()), None


def both(name: str, function: Callable[..., Any], inputs: tuple[Any, ...]) -> list[Work]:
    """With the native kernels where they can be built, and without."""
    works: list[Work] = [Work(f"{name}, native", function, inputs)] if native.status().active else []
    return [*works, TorchOps(f"{name}, torch ops", function, inputs)]


def cross_entropy(dtype: torch.dtype, scale: int, compile: bool) -> list[Work]:
    rows, classes = ROWS // scale, CLASSES // scale
    logits, targets = torch.randn(rows, classes).to(dtype).requires_grad_(), torch.randint(0, classes, (rows,))
    given, over = (logits, targets), (torch.ones((), requires_grad=True), logits.detach().clone(), targets)
    works = [Work("F.cross_entropy", functional.cross_entropy, given)]
    if compile:
        works.append(Work("torch.compile", torch.compile(functional.cross_entropy, dynamic=False), given))
    works += both("gs", gs.cross_entropy, given)
    works += both("gs, gradient in the backward", lambda x, t: gs.cross_entropy(x, t, reduction="none").mean(), given)
    works += both("gs inplace=True", lambda a, m, t: gs.cross_entropy(Produce.apply(a, m), t, inplace=True), over)
    return works


def linear_cross_entropy(dtype: torch.dtype, scale: int, compile: bool) -> list[Work]:
    rows, features, classes = ROWS // scale, FEATURES // scale, CLASSES // scale
    x, w = torch.randn(rows, features).to(dtype), (torch.randn(classes, features) / features**0.5).to(dtype)
    given = x.requires_grad_(), w.requires_grad_(), torch.randint(0, classes, (rows,))

    def unfused(x: Tensor, w: Tensor, t: Tensor) -> Tensor:
        return functional.cross_entropy(functional.linear(x, w), t)

    works = [Work("F.linear, F.cross_entropy", unfused, given)]
    if compile:
        works.append(Work("torch.compile", torch.compile(unfused, dynamic=False), given))
        works += [Work(name, function, given) for name, function in cut_cross_entropy()]
    works += [Work(name, function, given) for name, function in torchs_own()]
    works += both("gs", gs.linear_cross_entropy, given)
    works += both("gs memory='recompute'", lambda *a: gs.linear_cross_entropy(*a, memory="recompute"), given)
    works.append(Work("the three products alone", products(x, w), ()))
    return works


def cut_cross_entropy() -> Iterator[tuple[str, Callable[..., Tensor]]]:
    """Its way for the CPU, where `pip install cut-cross-entropy` was done."""
    try:
        from cut_cross_entropy import linear_cross_entropy as theirs
    except ImportError:
        return
    yield "cut-cross-entropy, torch_compile", lambda *a: theirs(*a, impl="torch_compile")


def torchs_own() -> Iterator[tuple[str, Callable[..., Tensor]]]:
    """torch.nn.functional.linear_cross_entropy, where this torch has it, in its options."""
    options = getattr(torch.nn, "LinearCrossEntropyOptions", None)
    if options is None:
        return
    chunked = {"batch_chunk_size": 512, "chunking_method": None}
    choices = {"": {}, ", chunks of 512": chunked, ", chunks of 512, compact": {**chunked, "acc_policy": "compact"}}
    for name, choice in choices.items():
        chosen = options(**choice)
        yield f"F.linear_cross_entropy{name}", lambda *a, o=chosen: functional.linear_cross_entropy(*a, options=o)


def products(x: Tensor, w: Tensor) -> Callable[[], Tensor]:
    """What no loss of this kind can do without, into memory that is there."""
    x, w = x.detach(), w.detach()
    logits, dx, dw = x @ w.mT, torch.empty_like(x), torch.empty_like(w)

    def run() -> Tensor:
        torch.mm(x, w.mT, out=logits)
        torch.mm(logits, w, out=dx)
        return torch.mm(logits.mT, x, out=dw)

    return run


BUILD = {"cross_entropy": cross_entropy, "linear_cross_entropy": linear_cross_entropy}


def measure(case: str, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """In this process: milliseconds, times as quick as the first contender, and peak MiB of each."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    loss, dtype = case.rsplit("-", 1)
    works = BUILD[loss](DTYPES[dtype], options.scale, options.compile)
    rounds = counted(works, options.seconds, options.busy)
    totals = {work: [each.samples[work].total for each in rounds] for work in works}
    first = totals[works[0]]
    return {
        work.name: {
            "ms": statistics.median(own) * 1e3,
            "ratio": statistics.median(base / mine for base, mine in zip(first, own, strict=True)),
            "peak": usage(work).peak / 2**20,
        }
        for work, own in totals.items()
    }


def limit(which: str) -> dict[str, float]:
    """In this process: seconds and peak resident MiB of a step with 256,000 classes, in 4 GiB of address space."""
    resource.setrlimit(resource.RLIMIT_AS, (4 * 2**30, 4 * 2**30))
    torch.set_num_threads(2)
    x, w = torch.randn(2048, 64, requires_grad=True), torch.randn(256_000, 64, requires_grad=True)
    t = torch.randint(0, 256_000, (2048,))
    start = time.perf_counter()
    loss = gs.linear_cross_entropy(x, w, t) if which == "gs" else functional.cross_entropy(functional.linear(x, w), t)
    loss.backward()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": time.perf_counter() - start, "peak": peak}


def in_a_process(case: str, regime: str, arguments: list[str]) -> dict[str, Any] | None:
    """What this script measures when it is called for one case; None where it does not come back with numbers."""
    command = [sys.executable, __file__, case, "--regime", regime, *arguments]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode == 0:
        return json.loads(run.stdout.splitlines()[-1])  # type: ignore[no-any-return]
    print(f"{case} ({regime}): {run.stderr.strip().splitlines()[-1][:160]}", file=sys.stderr)
    return None


def table(case: str, found: dict[str, dict[str, Any] | None]) -> Table:
    shown = Table(case, *[f"{regime} {what}" for regime in found for what in ("ms", "x")], "peak MiB")
    for column in shown.columns[1:]:
        column.justify = "right"
    for name in next((each for each in found.values() if each), {}):
        cells = [each[name] if each else None for each in found.values()]
        numbers = [text for cell in cells for text in ((f"{cell['ms']:.1f}", f"{cell['ratio']:.2f}") if cell else "--")]
        shown.add_row(name, *numbers, next(f"{cell['peak']:.0f}" for cell in cells if cell))
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "cases", nargs="*", metavar="CASE", help=f"some of {', '.join((*CASES, 'limit'))}; all by default"
    )
    parser.add_argument("--seconds", type=float, default=20.0, help="for the timing of a case in a regime")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--scale", type=int, default=1, help="divide every size by this")
    parser.add_argument("--busy", action="store_true", help="beside another process that computes")
    parser.add_argument("--no-compile", dest="compile", action="store_false", help="without torch.compile")
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    parser.add_argument("--regime", choices=("default", "recycled", "gs", "unfused"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    unknown = set(options.cases) - {*CASES, "limit"}
    if unknown:
        parser.error(f"no case {sorted(unknown)[0]!r}; there are {', '.join((*CASES, 'limit'))}")
    if options.regime in ("gs", "unfused"):
        print(json.dumps(limit(options.regime)))
        return
    if options.regime:
        with REGIMES[options.regime](), busy(options.busy):
            print(json.dumps(measure(options.cases[0], options)))
        return
    arguments = [argument for argument in sys.argv[1:] if argument not in (*CASES, "limit", "--json")]
    results = {}
    for case in options.cases or (*CASES, "limit"):
        regimes = ("gs", "unfused") if case == "limit" else ("default", "recycled")
        results[case] = {regime: in_a_process(case, regime, arguments) for regime in regimes}
        if options.json:
            continue
        if case == "limit":
            for regime, each in results[case].items():
                print(f"256,000 classes in 4 GiB, {regime}: {each or 'does not fit'}")
        else:
            Console(width=120).print(
                table(f"{case} (sizes / {options.scale})" if options.scale > 1 else case, results[case])
            )
    if options.json:
        print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
