"""Errors of the catalog's ops against float64, in roundings, for each precision and back end, beside torch's own.

    python benchmarks/numerics.py            # a minute or two

A result and its gradients, at the same rounded arguments and upstream gradient, are compared with those in float64. The
error is the largest of any element, over the largest element and the precision's rounding unit; of an op's results the
worst is shown. gradsmith's checker lets 24 units pass, or four times what one rounding of the arguments makes of the
exact result, where that is more; a line says so where an op is further off.
"""

import argparse
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch.nn import functional

from gradsmith import native
from gradsmith.catalog import CATALOG

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
ROWS, WIDTH = 256, 1024


class Case(NamedTuple):
    """Torch's function, how the arguments are made (those of a floating-point dtype have gradients), and options."""

    theirs: Callable
    arguments: Callable[[], tuple]
    options: Mapping[str, Any] = MappingProxyType({})


def x(*shape):
    return torch.randn(shape or (ROWS, WIDTH)) * 2


def labels():
    return torch.randint(WIDTH, (ROWS,))


def gated(activation):
    return lambda gate, up: activation(gate) * up


def vocabulary_loss(input, weight, targets):
    return functional.cross_entropy(functional.linear(input, weight), targets)


def turned(features, cos, sin):
    a, b = features.chunk(2, -1)
    return torch.cat((a * cos - b * sin, a * sin + b * cos), -1)


def added(norm):
    def both(input, residual, *rest):
        return norm(input + residual, *rest), input + residual

    return both


def coarse():
    """Multiples of 1/4 whose sums are exact in every precision: a sum is rounded before it is normalised."""
    return x().clamp(-8, 8).mul(4).round().div(4)


def focal(logits, targets, reduction):
    """As torchvision's sigmoid_focal_loss, whose mean is meant here."""
    p = logits.sigmoid()
    loss = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    hit = p * targets + (1 - p) * (1 - targets)
    share = 0.25 * targets + 0.75 * (1 - targets)
    return (share * (1 - hit) ** 2 * loss).mean()


CASES = {
    "exp": Case(torch.exp, lambda: (x(),)),
    "linear": Case(functional.linear, lambda: (x(ROWS, 512), x(512, 512) / 16, x(512))),
    "embedding": Case(functional.embedding, lambda: (labels(), x(WIDTH, 64))),
    "attention": Case(
        functional.scaled_dot_product_attention,
        lambda: tuple(x(2, 4, 128, 64) / 2 for _ in range(3)),
        {"is_causal": True},
    ),
    "cross_entropy": Case(functional.cross_entropy, lambda: (x(), labels())),
    "huber_loss": Case(functional.huber_loss, lambda: (x(), x())),
    "smooth_l1_loss": Case(functional.smooth_l1_loss, lambda: (x(), x())),
    "binary_cross_entropy_with_logits": Case(functional.binary_cross_entropy_with_logits, lambda: (x(), x().sigmoid())),
    "focal_loss": Case(focal, lambda: (x(), (x() > 0).float()), {"reduction": "mean"}),
    "kl_div": Case(functional.kl_div, lambda: (x().log_softmax(1), x().softmax(1)), {"reduction": "batchmean"}),
    "cosine_similarity": Case(functional.cosine_similarity, lambda: (x(), x())),
    "normalize": Case(functional.normalize, lambda: (x(),)),
    "group_norm": Case(functional.group_norm, lambda: (x(32, 64, 64), 8, x(64), x(64))),
    "bilinear": Case(functional.bilinear, lambda: (x(64, 32), x(64, 48), x(16, 32, 48) / 32, x(16))),
    "rotary_embedding": Case(turned, lambda: (x(), x(ROWS, WIDTH // 2).sin(), x(ROWS, WIDTH // 2).cos())),
    "linear_cross_entropy": Case(vocabulary_loss, lambda: (x(ROWS, 128), x(WIDTH, 128) / 8, labels())),
    "softmax": Case(functional.softmax, lambda: (x(),), {"dim": -1}),
    "log_softmax": Case(functional.log_softmax, lambda: (x(),), {"dim": -1}),
    "logsumexp": Case(torch.logsumexp, lambda: (x(),), {"dim": -1}),
    "layer_norm": Case(functional.layer_norm, lambda: (x() + 1, (WIDTH,), x(WIDTH), x(WIDTH))),
    "rms_norm": Case(functional.rms_norm, lambda: (x(), (WIDTH,), x(WIDTH), 1e-6)),
    "add_layer_norm": Case(added(functional.layer_norm), lambda: (coarse(), coarse(), (WIDTH,), x(WIDTH), x(WIDTH))),
    "add_rms_norm": Case(added(functional.rms_norm), lambda: (coarse(), coarse(), (WIDTH,), x(WIDTH), 1e-6)),
    "gelu": Case(functional.gelu, lambda: (x(),)),
    "silu": Case(functional.silu, lambda: (x(),)),
    "geglu": Case(gated(functional.gelu), lambda: (x(), x())),
    "swiglu": Case(gated(functional.silu), lambda: (x(), x())),
}


def floating(values):
    return [value for value in values if isinstance(value, torch.Tensor) and value.is_floating_point()]


def to(dtype, arguments):
    return tuple(a.to(dtype) if floating([a]) else a for a in arguments)


def results(function, arguments, options, rounded):
    """Outputs, and gradients under upstream gradients that are rounded to a dtype."""
    leaves = tuple(a.detach().clone().requires_grad_() if floating([a]) else a for a in arguments)
    outs = function(*leaves, **options)
    outs = outs if isinstance(outs, tuple) else (outs,)
    generator = torch.Generator().manual_seed(0)
    upstream = [torch.randn(out.shape, generator=generator).to(rounded).to(out.dtype) for out in outs]
    return [*(out.detach() for out in outs), *torch.autograd.grad(outs, floating(leaves), upstream)]


def error(got, exact, dtype):
    """The worst of all results, in units of the last place of its largest element."""
    unit = torch.finfo(dtype).eps
    return max(
        float((mine.double() - true).abs().max() / true.abs().max() / unit)
        for mine, true in zip(got, exact, strict=True)
    )


def nudged(arguments, dtype):
    """Each element off by up to half a unit."""
    half = torch.finfo(dtype).eps / 2
    return tuple(a * (1 + half * (2 * torch.rand_like(a) - 1)) if floating([a]) else a for a in arguments)


def print_errors(name, case):
    ours = CATALOG[name]
    for dtype in DTYPES:
        low = to(dtype, case.arguments())
        wide = to(torch.float64, low)
        exact = results(case.theirs, wide, case.options, dtype)
        inherent = error(results(case.theirs, nudged(wide, dtype), case.options, dtype), exact, dtype)
        theirs = error(results(case.theirs, low, case.options, dtype), exact, dtype)
        with native.disabled():
            plain = error(results(ours, low, case.options, dtype), exact, dtype)
        kernel = error(results(ours, low, case.options, dtype), exact, dtype)
        over = "  more than the checker allows" if max(plain, kernel) > max(24, 4 * inherent) else ""
        kind = str(dtype).removeprefix("torch.")
        print(f"{name:<33}{kind:<9}{theirs:>9.2f}{plain:>11.2f}{kernel:>9.2f}{over}", flush=True)


def print_sums(rows):
    """The gradients of weight and bias of a norm are sums over all rows."""
    print(f"\nerror of the gradients over {rows} rows in bfloat16, relative to their norm\n")
    print(f"{'':<33}{'torch':>9}{'torch ops':>11}{'native':>9}")
    size = 64
    for name, theirs, rest in (("layer_norm", functional.layer_norm, 2), ("rms_norm", functional.rms_norm, 1)):
        arguments = [torch.randn(rows, size) + 0.5, (size,), torch.rand(size) + 0.5, torch.randn(size)][: rest + 2]
        low = to(torch.bfloat16, arguments)
        exact = results(theirs, to(torch.float64, low), {}, torch.bfloat16)[2:]
        with native.disabled():
            plain = results(CATALOG[name], low, {}, torch.bfloat16)[2:]
        columns = (
            results(theirs, low, {}, torch.bfloat16)[2:],
            plain,
            results(CATALOG[name], low, {}, torch.bfloat16)[2:],
        )
        for index, what in enumerate(("weight", "bias")[:rest]):
            off = [float((found[index].double() - exact[index]).norm() / exact[index].norm()) for found in columns]
            print(f"{name + ', ' + what:<33}{off[0]:>9.2%}{off[1]:>11.2%}{off[2]:>9.2%}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=65536, help="of the second table")
    options = parser.parse_args()
    torch.manual_seed(0)
    status = native.status()
    print(f"torch {torch.__version__}; native kernels: {'built' if status.active else status.reason}\n")
    print(f"{'units of the last place':<33}{'':<9}{'torch':>9}{'torch ops':>11}{'native':>9}")
    for name in CATALOG:
        if name in CASES:
            print_errors(name, CASES[name])
        else:
            print(f"{name:<33}not in this table")
    print_sums(options.rows)


if __name__ == "__main__":
    main()
