"""Plain forwards as people write them, each with inputs of two different shapes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor


def real(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def softmax(x):
    return torch.softmax(x, -1)


def logsumexp(x):
    return torch.logsumexp(x, dim=-1)


def layer_norm(x, weight, bias, eps=1e-5):
    """Layer norm over the last dimension."""
    mean = x.mean(-1, keepdim=True)
    var = x.var(-1, unbiased=False, keepdim=True)
    rstd = torch.rsqrt(var + eps)
    xhat = (x - mean) * rstd
    return xhat * weight + bias


def builtin_layer_norm(x, weight, bias):
    return F.layer_norm(x, (x.shape[-1],), weight, bias)


def rms_norm(x, weight, eps=1e-6):
    rms = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)
    return x * rms * weight


def swiglu(x, gate):
    return F.silu(gate) * x


def gelu_tanh(x):
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def builtin_gelu(x):
    return F.gelu(x, approximate="tanh")


def cosine_similarity(a, b):
    return F.cosine_similarity(a, b, dim=-1)


def cross_entropy(logits, target):
    return F.cross_entropy(logits, target)


def normalize(x):
    return F.normalize(x, dim=-1)


def huber(x, y, delta=1.0):
    d = (x - y).abs()
    return torch.where(d < delta, 0.5 * d**2, delta * (d - 0.5 * delta)).mean()


def attention(q, k, v):
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    p = torch.softmax(scores, dim=-1)
    return p @ v


def causal_attention(q, k, v):
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def multi_head(x, weight, heads=2):
    batch, length, width = x.shape
    parts = F.linear(x, weight).view(batch, length, heads, width // heads).transpose(1, 2)
    scores = parts @ parts.mT / math.sqrt(width // heads)
    return (torch.softmax(scores, -1) @ parts).transpose(1, 2).reshape(batch, length, width)


def bilinear(x, W, y):
    return torch.einsum("bi,ij,bj->b", x, W, y)


def quadratic_form(x, W, y):
    return ((x @ W) * y).sum(-1)


def polynomial(x, a, b, c):
    return a * x**3 + b * x**2 + c * x


def focal(x, target, alpha=0.25, gamma=2.0):
    p = torch.sigmoid(x)
    ce = F.binary_cross_entropy_with_logits(x, target, reduction="none")
    p_t = p * target + (1 - p) * (1 - target)
    alpha_t = alpha * target + (1 - alpha) * (1 - target)
    return (alpha_t * ce * (1 - p_t) ** gamma).mean()


def mlp(x, w1, b1, w2):
    h = torch.tanh(F.linear(x, w1, b1))
    return F.linear(h, w2)


def rotary(x, cos, sin):
    first, second = x.chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


@dataclass(frozen=True)
class Case:
    """A forward, and two makers of inputs."""

    forward: Callable[..., Any]
    example: Callable[[], tuple[Any, ...]]
    other: Callable[[], tuple[Any, ...]]

    @property
    def name(self) -> str:
        return self.forward.__name__


CASES = [
    Case(softmax, lambda: (real(3, 4),), lambda: (real(2, 3, 5),)),
    Case(logsumexp, lambda: (real(3, 4),), lambda: (real(5),)),
    Case(layer_norm, lambda: (real(3, 4), real(4), real(4)), lambda: (real(2, 2, 5), real(5), real(5))),
    Case(builtin_layer_norm, lambda: (real(3, 4), real(4), real(4)), lambda: (real(2, 2, 5), real(5), real(5))),
    Case(rms_norm, lambda: (real(3, 4), real(4)), lambda: (real(2, 2, 5), real(5))),
    Case(swiglu, lambda: (real(3, 4), real(3, 4)), lambda: (real(5), real(5))),
    Case(gelu_tanh, lambda: (real(3, 4),), lambda: (real(5),)),
    Case(builtin_gelu, lambda: (real(3, 4),), lambda: (real(5),)),
    Case(cosine_similarity, lambda: (real(3, 4), real(3, 4)), lambda: (real(2, 2, 5), real(2, 2, 5))),
    Case(
        cross_entropy,
        lambda: (real(4, 5), torch.tensor([0, 4, 2, -100])),
        lambda: (real(3, 2), torch.tensor([1, 1, 0])),
    ),
    Case(normalize, lambda: (real(3, 4),), lambda: (real(2, 2, 5),)),
    Case(huber, lambda: (2 * real(6), real(6)), lambda: (2 * real(2, 3), real(2, 3))),
    Case(
        attention, lambda: (real(2, 3, 4), real(2, 5, 4), real(2, 5, 6)), lambda: (real(3, 4), real(2, 4), real(2, 3))
    ),
    Case(
        causal_attention,
        lambda: (real(2, 3, 4), real(2, 3, 4), real(2, 3, 5)),
        lambda: (real(1, 2, 4, 2), real(1, 2, 4, 2), real(1, 2, 4, 3)),
    ),
    Case(multi_head, lambda: (real(2, 3, 4), real(4, 4)), lambda: (real(1, 2, 6), real(6, 6))),
    Case(bilinear, lambda: (real(3, 4), real(4, 2), real(3, 2)), lambda: (real(1, 2), real(2, 3), real(1, 3))),
    Case(quadratic_form, lambda: (real(3, 4), real(4, 2), real(3, 2)), lambda: (real(1, 2), real(2, 3), real(1, 3))),
    Case(
        polynomial,
        lambda: (real(5), real(5), real(5), real(5)),
        lambda: (real(2, 3), real(2, 3), real(2, 3), real(2, 3)),
    ),
    Case(
        focal,
        lambda: (real(6), torch.rand(6, dtype=torch.float64)),
        lambda: (real(2, 3), torch.rand(2, 3, dtype=torch.float64)),
    ),
    Case(
        mlp,
        lambda: (real(3, 4), real(5, 4), real(5), real(2, 5)),
        lambda: (real(2, 3), real(4, 3), real(4), real(1, 4)),
    ),
    Case(rotary, lambda: (real(3, 4), real(3, 2), real(3, 2)), lambda: (real(2, 6), real(2, 3), real(2, 3))),
]
