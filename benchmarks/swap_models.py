"""What `gs.nn.swap` does for whole models: a small GPT, a vision transformer and an MLP, written with torch.nn alone.

    python benchmarks/swap_models.py [gpt] [vit] [mlp] [--seconds S] [--reuse-memory] [--json]

Each model computes its own loss. The swapped copy and the original have the same weights and take turns; printed are
what was swapped, the bytes saved for the backward by class of module, and the profile of a forward and backward.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from gradsmith.memory import reuse_memory
from gradsmith.nn import swap
from gradsmith.profile import Profile, profile


class Attention(nn.Module):
    """Causal self-attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Attention and a two-layer network, each behind a norm and beside a residual."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.Sequential(nn.LayerNorm(width), Attention(width, heads), nn.Dropout(0.0))
        self.network = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width), nn.Dropout(0.0)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(x)
        return x + self.network(x)


class GPT(nn.Module):
    """Tokens (batch, length) and the next ones to the mean loss."""

    def __init__(
        self, vocabulary: int = 8192, width: int = 256, depth: int = 4, heads: int = 8, length: int = 128
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(length, width)
        self.blocks = nn.Sequential(*[Block(width, heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.loss = nn.CrossEntropyLoss()

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        x = self.tokens(tokens) + self.positions(torch.arange(tokens.shape[1], device=tokens.device))
        logits = self.head(self.norm(self.blocks(x)))
        return self.loss(logits.flatten(0, 1), targets.flatten())


class ViT(nn.Module):
    """Images (batch, 3, size, size) and classes to the mean loss, on torch's own encoder."""

    def __init__(self, width: int = 192, depth: int = 4, heads: int = 6, patch: int = 8, size: int = 64) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, stride=patch)
        self.positions = nn.Parameter(0.02 * torch.randn((size // patch) ** 2, width))
        layer = nn.TransformerEncoderLayer(width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, depth, nn.LayerNorm(width), enable_nested_tensor=False)
        self.head = nn.Linear(width, 100)
        self.loss = nn.CrossEntropyLoss(label_smoothing=0.1)

    def forward(self, images: Tensor, classes: Tensor) -> Tensor:
        x = self.patches(images).flatten(2).transpose(1, 2) + self.positions
        return self.loss(self.head(self.encoder(x).mean(1)), classes)


class MLP(nn.Module):
    """Features (batch, inputs) and classes to the mean loss."""

    def __init__(self, inputs: int = 512, width: int = 1024, depth: int = 4, classes: int = 1000) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Linear(inputs, width)]
        for _ in range(depth):
            layers += [nn.RMSNorm(width), nn.SiLU(), nn.Dropout(0.0), nn.Linear(width, width)]
        self.layers = nn.Sequential(*layers, nn.Linear(width, classes))
        self.loss = nn.CrossEntropyLoss()

    def forward(self, features: Tensor, classes: Tensor) -> Tensor:
        return self.loss(self.layers(features), classes)


def gpt_inputs() -> tuple[Tensor, Tensor]:
    return torch.randint(8192, (8, 128)), torch.randint(8192, (8, 128))


def vit_inputs() -> tuple[Tensor, Tensor]:
    return torch.randn(16, 3, 64, 64), torch.randint(100, (16,))


def mlp_inputs() -> tuple[Tensor, Tensor]:
    return torch.randn(1024, 512), torch.randint(1000, (1024,))


MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[], tuple[Tensor, ...]]]] = {
    "gpt": (GPT, gpt_inputs),
    "vit": (ViT, vit_inputs),
    "mlp": (MLP, mlp_inputs),
}


def measure(name: str, seconds: float, quiet: bool) -> Profile:
    """Profile the swapped model beside the original."""
    torch.manual_seed(0)
    build, make_inputs = MODELS[name]
    plain, inputs = build(), make_inputs()
    model = copy.deepcopy(plain)
    swapped = swap(model)
    if not quiet:
        print(f"{name}: {swapped}")
        print(swapped.saved(lambda: model(*inputs)))
    return profile(model, inputs, plain, compiled=False, seconds=seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("models", nargs="*", help=f"some of {', '.join(MODELS)}; all without any")
    parser.add_argument("--seconds", type=float, default=10.0, help="for the timing of each")
    parser.add_argument("--reuse-memory", action="store_true")
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    options = parser.parse_args()
    for name in options.models:
        if name not in MODELS:
            parser.error(f"no model {name!r}; there are {', '.join(MODELS)}")
    with reuse_memory() if options.reuse_memory else contextlib.nullcontext():
        found = {}
        for name in options.models or MODELS:
            found[name] = measure(name, options.seconds, options.json)
            if not options.json:
                print(found[name], end="\n\n")
    if options.json:
        print(json.dumps({name: each.to_dict() for name, each in found.items()}, indent=2))


if __name__ == "__main__":
    main()
