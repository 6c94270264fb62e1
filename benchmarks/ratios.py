"""How many times as long torch's built-in takes for the work of each op of the catalog, forward and backward.

    python benchmarks/ratios.py                          # some minutes
    python benchmarks/ratios.py --only norm,softmax      # names that contain one of these
    python benchmarks/ratios.py --busy                   # beside another process that computes
    python benchmarks/ratios.py --losses                 # and after it vocabulary_losses.py: all ratios in one run
    python benchmarks/ratios.py --quick                  # small sizes and few rounds: whether it runs, no result

Built-in, torch ops and native kernels take turns in every round, and the medians over the rounds are divided. There are
two regimes: "default" is the C library's allocator as it is, "recycled" has `gs.reuse_memory()` on, for the built-in
just as for ours. 2 means twice as fast as the built-in; a "<" marks what is slower than 0.95 of it. Where no kernel
serves, "native" is what torch ops are. Run it on a quiet machine: the last column is how many cores others used. What
was measured is printed when it is interrupted, too.
"""

from __future__ import annotations

import argparse
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from contenders import DTYPES, REGIMES, TorchOps, busy, counted
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor
from torch.nn import functional

from gradsmith import catalog, native
from gradsmith.catalog.dropout import dropout
from gradsmith.catalog.embedding import embedding
from gradsmith.profile.work import Work

LOWEST = 0.95


class Case(NamedTuple):
    """An op, torch's function for the same, and how their arguments are made from a dtype and a number of rows."""

    ours: Callable[..., Any]
    theirs: Callable[..., Any]
    arguments: Callable[[torch.dtype, int], tuple[Any, ...]]
    kwargs: Mapping[str, Any] = MappingProxyType({})


class Ratios(NamedTuple):
    """The built-in's time over ours."""

    torch_ops: float
    kernels: float
    others: float


WIDTH = 1024


def leaf(dtype: torch.dtype, *shape: int) -> Tensor:
    return torch.randn(shape).to(dtype).requires_grad_()


def one(dtype: torch.dtype, rows: int) -> tuple[Any, ...]:
    return (leaf(dtype, rows, WIDTH),)


def two(dtype: torch.dtype, rows: int) -> tuple[Any, ...]:
    return leaf(dtype, rows, WIDTH), leaf(dtype, rows, WIDTH)


def with_target(target: Callable[[Tensor], Tensor]) -> Callable[[torch.dtype, int], tuple[Any, ...]]:
    """Arguments of a loss: input that requires a gradient, and a target that does not."""
    return lambda dtype, rows: (leaf(dtype, rows, WIDTH), target(torch.randn(rows, WIDTH)).to(dtype))


def norm(*, residual: bool = False, bias: bool = False) -> Callable[[torch.dtype, int], tuple[Any, ...]]:
    def arguments(dtype: torch.dtype, rows: int) -> tuple[Any, ...]:
        inputs = two(dtype, rows) if residual else one(dtype, rows)
        return (*inputs, (WIDTH,), *(leaf(dtype, WIDTH) for _ in range(2 if bias else 1)))

    return arguments


def images(dtype: torch.dtype, rows: int) -> tuple[Any, ...]:
    return leaf(dtype, max(1, rows // 256), 64, 64, 64), 8, leaf(dtype, 64), leaf(dtype, 64)


def heads(dtype: torch.dtype, rows: int) -> tuple[Any, ...]:
    """Queries of 8 examples with 16 heads of 64 features, and their angles."""
    length = max(1, rows // 8)
    theta = torch.arange(length)[:, None] / 10000 ** (torch.arange(32) / 32)
    return leaf(dtype, 8, 16, length, 64), theta.cos().to(dtype), theta.sin().to(dtype)


def queries(*, mask: bool = False) -> Callable[[torch.dtype, int], tuple[Any, ...]]:
    """Queries, keys and values of 2 examples with 8 heads of 64 features; and a bias for each score, as in T5."""

    def arguments(dtype: torch.dtype, rows: int) -> tuple[Any, ...]:
        length = max(1, rows // 16)
        three = [leaf(dtype, 2, 8, length, 64) for _ in range(3)]
        return (*three, leaf(dtype, 8, length, length)) if mask else tuple(three)

    return arguments


def turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """The rotation as models on torch write it."""
    a, b = x.chunk(2, -1)
    return x * torch.cat((cos, cos), -1) + torch.cat((-b, a), -1) * torch.cat((sin, sin), -1)


def focal(x: Tensor, t: Tensor) -> Tensor:
    """As torchvision's sigmoid_focal_loss, with its mean."""
    p = torch.sigmoid(x)
    loss = functional.binary_cross_entropy_with_logits(x, t, reduction="none")
    hit = p * t + (1 - p) * (1 - t)
    return ((0.25 * t + 0.75 * (1 - t)) * loss * (1 - hit) ** 2).mean()


def added(norm: Callable[..., Tensor]) -> Callable[..., tuple[Tensor, Tensor]]:
    def both(input: Tensor, residual: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
        total = input + residual
        return norm(total, *rest), total

    return both


CASES = {
    "exp": Case(catalog.exp, torch.exp, one),
    "linear": Case(
        catalog.linear,
        functional.linear,
        lambda dtype, rows: (leaf(dtype, rows // 4, WIDTH), leaf(dtype, WIDTH, WIDTH), leaf(dtype, WIDTH)),
    ),
    "softmax": Case(catalog.softmax, functional.softmax, one, {"dim": -1}),
    "log_softmax": Case(catalog.log_softmax, functional.log_softmax, one, {"dim": -1}),
    "logsumexp": Case(catalog.logsumexp, torch.logsumexp, one, {"dim": -1}),
    "layer_norm": Case(catalog.layer_norm, functional.layer_norm, norm(bias=True)),
    "rms_norm": Case(catalog.rms_norm, functional.rms_norm, norm()),
    "add_layer_norm": Case(catalog.add_layer_norm, added(functional.layer_norm), norm(residual=True, bias=True)),
    "add_rms_norm": Case(catalog.add_rms_norm, added(functional.rms_norm), norm(residual=True)),
    "group_norm": Case(catalog.group_norm, functional.group_norm, images),
    "gelu": Case(catalog.gelu, functional.gelu, one),
    "silu": Case(catalog.silu, functional.silu, one),
    "geglu": Case(catalog.geglu, lambda gate, up: functional.gelu(gate) * up, two),
    "swiglu": Case(catalog.swiglu, lambda gate, up: functional.silu(gate) * up, two),
    "huber_loss": Case(catalog.huber_loss, functional.huber_loss, with_target(torch.clone)),
    "smooth_l1_loss": Case(catalog.smooth_l1_loss, functional.smooth_l1_loss, with_target(torch.clone)),
    "binary_cross_entropy_with_logits": Case(
        catalog.binary_cross_entropy_with_logits,
        functional.binary_cross_entropy_with_logits,
        with_target(torch.sigmoid),
    ),
    "focal_loss": Case(
        lambda x, t: catalog.focal_loss(x, t, reduction="mean"), focal, with_target(lambda t: (t > 0).float())
    ),
    "kl_div": Case(
        catalog.kl_div,
        functional.kl_div,
        with_target(lambda t: t.softmax(-1)),
        {"reduction": "batchmean"},
    ),
    "cosine_similarity": Case(catalog.cosine_similarity, functional.cosine_similarity, two),
    "normalize": Case(catalog.normalize, functional.normalize, one),
    "bilinear": Case(
        catalog.bilinear,
        functional.bilinear,
        lambda dtype, rows: (leaf(dtype, rows // 8, 64), leaf(dtype, rows // 8, 64), leaf(dtype, 16, 64, 64)),
    ),
    "rotary_embedding": Case(catalog.rotary_embedding, turned, heads),
    "attention": Case(catalog.attention, functional.scaled_dot_product_attention, queries(), {"is_causal": True}),
    "attention, bias": Case(
        lambda q, k, v, bias: catalog.attention(q, k, v, attn_mask=bias),
        functional.scaled_dot_product_attention,
        queries(mask=True),
    ),
    "dropout": Case(dropout, functional.dropout, one),
    "embedding": Case(
        embedding,
        functional.embedding,
        lambda dtype, rows: (torch.randint(8192, (rows,)), leaf(dtype, 8192, WIDTH)),
    ),
}
ELSEWHERE = ("cross_entropy", "linear_cross_entropy")  # have a script of their own


def measure(case: Case, dtype: torch.dtype, options: argparse.Namespace) -> Ratios:
    torch.manual_seed(0)
    arguments = case.arguments(dtype, options.rows)
    works = [
        Work("built-in", case.theirs, arguments, case.kwargs),
        TorchOps("torch ops", case.ours, arguments, case.kwargs),
        Work("native", case.ours, arguments, case.kwargs),
    ]
    for work in works:
        work.run()
    rounds = counted(works, options.seconds, options.busy)
    times = [statistics.median(round.samples[work].total for round in rounds) for work in works]
    others = statistics.median(round.others or 0 for round in rounds)
    return Ratios(times[0] / times[1], times[0] / times[2], others)


def chosen(only: str | None) -> Iterator[tuple[str, str]]:
    """Each op with each dtype."""
    wanted = only.split(",") if only else [""]
    for name in CASES:
        if any(part in name for part in wanted):
            for dtype in DTYPES:
                yield name, dtype


def shown(ratio: float) -> str:
    return f"{ratio:.2f}{' <' if ratio < LOWEST else ''}"


def table(found: dict[tuple[str, str], dict[str, Ratios]]) -> Table:
    headings = "torch ops, default", "recycled", "native, default", "recycled", "others"
    result = Table("op", "dtype", *[f"{heading:>9}" for heading in headings])
    for (name, dtype), regimes in found.items():
        each = [regimes.get(regime) for regime in REGIMES]
        torch_ops = [shown(ratios.torch_ops) if ratios else "-" for ratios in each]
        kernels = [shown(ratios.kernels) if ratios else "-" for ratios in each]
        others = max((ratios.others for ratios in regimes.values()), default=0)
        result.add_row(name, dtype, *torch_ops, *kernels, f"{others:.1f}")
    return result


def measure_all(cases: Sequence[tuple[str, str]], options: argparse.Namespace) -> Iterator[tuple[Any, str, Ratios]]:
    """One regime after the other: once the setting was on, the allocator is no longer quite as it was."""
    for regime, setting in REGIMES.items():
        with setting(), busy(options.busy):
            for name, dtype in track(cases, regime, console=Console(stderr=True)):
                yield (name, dtype), regime, measure(CASES[name], DTYPES[dtype], options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="parts of names, separated by commas")
    parser.add_argument("--quick", action="store_true", help="256 rows and five rounds")
    parser.add_argument("--busy", action="store_true", help="beside another process that computes")
    parser.add_argument("--losses", action="store_true", help="then those over a vocabulary; half an hour")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=3.0, help="for each op, dtype and regime")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.rows, options.seconds = (256, 0.0) if options.quick else (16384, options.seconds)
    cases = list(chosen(options.only))
    if not cases:
        sys.exit(f"no op has a name with {options.only}; there are {', '.join(CASES)}")
    status = native.status()
    how = f"torch {torch.__version__}, {options.threads} threads, {options.rows} rows"
    print(f"{how}; native: {status.active or status.reason}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    found: dict[tuple[str, str], dict[str, Ratios]] = {case: {} for case in cases}
    try:
        for case, regime, ratios in measure_all(cases, options):
            found[case][regime] = ratios
    except KeyboardInterrupt:
        sys.exit("interrupted")
    finally:
        Console(width=max(120, Console().width)).print(table(found))
    missing = [name for name in catalog.CATALOG if name not in CASES and name not in ELSEWHERE]
    if missing:
        print(f"not in this table: {', '.join(missing)}")
    if options.losses:
        sys.stdout.flush()
        script, size = Path(__file__).with_name("vocabulary_losses.py"), ["--scale", "16"] if options.quick else []
        size += ["--busy"] if options.busy else []
        sys.exit(subprocess.run([sys.executable, str(script), "--threads", str(options.threads), *size]).returncode)


if __name__ == "__main__":
    main()
