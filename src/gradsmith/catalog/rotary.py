"""Rotary position embedding: pairs of features turned by an angle that grows with the position."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gradsmith.catalog.parallel import parallel_for
from gradsmith.catalog.rows import Block, accumulation, blocks, watched
from gradsmith.define.op import op
from gradsmith.native import kernels


@op
def rotary_embedding(x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool = False) -> Tensor:
    """Turn pairs of features by angles: (a, b) -> (a cos θ - b sin θ, a sin θ + b cos θ).

    The first 2R of the D features of x make R pairs: feature k with feature R + k, as in GPT-NeoX and LLaMA, or with
    interleaved=True feature 2k with 2k + 1, as in GPT-J and the paper. The rest pass through unchanged. A rotation's
    transpose is the rotation back, so for the upstream gradient (p, q) of a pair

        ∂L/∂a = p cos θ + q sin θ        ∂L/∂cos θ = Σ p a + q b
        ∂L/∂b = q cos θ - p sin θ        ∂L/∂sin θ = Σ q a - p b

    with the sums over what shares an angle. cos and sin need not belong to one angle.

    Args:
        x: (*, D), such as queries or keys (batch, heads, length, D); a floating-point dtype. Half and bfloat16 are
            computed in float32 and rounded once.
        cos, sin: (*, R) with 2R ≤ D, whose leading dimensions broadcast to those of x: (length, R) for that layout.
        interleaved: which features make a pair.

    Returns:
        A tensor of the shape and dtype of x.

    Saves: cos and sin alone for the gradient of x; x as well where cos or sin require one. Source: Su et al.,
    https://arxiv.org/abs/2104.09864, equation 34; the signature is that of flash-attn's `apply_rotary_emb`.

    Raises RuntimeError where the shapes do not fit together.

    >>> quarter = torch.tensor([0.0]), torch.tensor([1.0])
    >>> rotary_embedding(torch.tensor([[1.0, 0.0, 5.0]]), *quarter)
    tensor([[0., 1., 5.]])
    """
    _check(x, cos, sin)
    return _turned(x, cos, sin, interleaved, 1)


@rotary_embedding.vjp("x")
def _(grad: Tensor, cos: Tensor, sin: Tensor, interleaved: bool) -> Tensor:
    return _turned(grad, cos, sin, interleaved, -1)


@rotary_embedding.vjp("cos", "sin")
def _(
    grad: Tensor,
    x: Tensor,
    cos_shape: torch.Size,
    sin_shape: torch.Size,
    interleaved: bool,
) -> tuple[Tensor, Tensor]:
    wide = accumulation(x.dtype)
    (p, q), (a, b) = (_pairs(tensor.to(wide), cos_shape[-1], interleaved) for tensor in (grad, x))
    return (p * a + q * b).sum_to_size(cos_shape), (q * a - p * b).sum_to_size(sin_shape)


def _turned(x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool, sign: int) -> Tensor:
    native = kernels(x, cos, sin)
    if native is not None:
        return _by_kernel(native, x, cos, sin, interleaved, sign)
    wide = accumulation(torch.promote_types(x.dtype, cos.dtype))
    count = cos.shape[-1]
    if watched():
        a, b = _pairs(x, count, interleaved)
        c, s = cos.to(wide), sin.to(wide) * sign
        turned = a * c - b * s, b * c + a * s
        features = torch.stack(turned, -1).flatten(-2) if interleaved else torch.cat(turned, -1)
        return torch.cat((features.to(x.dtype), x[..., 2 * count :]), -1)
    out = torch.empty_like(x)
    cosines, sines = (angle.to(wide).expand(*x.shape[:-1], count) for angle in (cos, sin))

    def turn(index: Block) -> None:
        part, c, s = x[index].to(wide), cosines[index], sines[index]
        result = out[index] if wide == x.dtype else torch.empty_like(part)  # rounded once, in whole rows
        (a, b), (to_a, to_b) = _pairs(part, count, interleaved), _pairs(result, count, interleaved)
        torch.mul(a, c, out=to_a).addcmul_(b, s, value=-sign)
        torch.mul(b, c, out=to_b).addcmul_(a, s, value=sign)
        result[..., 2 * count :] = part[..., 2 * count :]
        if wide != x.dtype:
            out[index] = result

    parallel_for(blocks(x.shape[:-1], 2 * x.shape[-1]), turn, x)  # what is read, and what is made of it
    return out


def _by_kernel(native: Any, x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool, sign: int) -> Tensor:
    cosines, sines = (_rows(angle.float()).expand(*x.shape[:-1], -1) for angle in (cos, sin))
    return native.rotary(_rows(x), cosines, sines, interleaved, sign)  # type: ignore[no-any-return]


def _rows(x: Tensor) -> Tensor:
    """With the last dimension in order, as the kernel takes it; the others may lie anyhow."""
    return x if x.stride(-1) == 1 else x.contiguous()


def _pairs(x: Tensor, count: int, interleaved: bool) -> tuple[Tensor, Tensor]:
    """Views of the first and the second feature of each pair."""
    if interleaved:
        return x[..., 0 : 2 * count : 2], x[..., 1 : 2 * count : 2]
    return x[..., :count], x[..., count : 2 * count]


def _check(x: Tensor, cos: Tensor, sin: Tensor) -> None:
    if cos.shape != sin.shape:
        raise RuntimeError(f"rotary_embedding: `sin` has shape {list(sin.shape)}, expected {list(cos.shape)} as `cos`")
    if not x.dim() or not cos.dim() or 2 * cos.shape[-1] > x.shape[-1]:
        raise RuntimeError(
            f"rotary_embedding: `cos` of shape {list(cos.shape)} turns two features of `x` for each of its last "
            f"dimension, and `x` has shape {list(x.shape)}"
        )
    leading = x.shape[:-1]
    fits = all(one in (1, size) for one, size in zip(cos.shape[-2::-1], leading[::-1], strict=False))
    if cos.dim() > x.dim() or not fits:
        raise RuntimeError(
            f"rotary_embedding: the leading dimensions of `cos`, {list(cos.shape[:-1])}, do not broadcast to those of "
            f"`x`, {list(leading)}"
        )
