"""Operations that are written out in simpler ones before they are differentiated, so that each needs no rule.

The printed forward has them written out, too: then their intermediate values can be kept for the formulas.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gradsmith.derive.errors import Unsupported

Dim = Any  # an int, a tuple of ints, or None


def _add(input: Any, other: Any, alpha: float) -> Any:
    return input + alpha * other


def _var(input: Tensor, dim: Dim = None, unbiased: Any = True, keepdim: bool = False, correction: Any = None) -> Any:
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    correction = int(unbiased) if correction is None else correction
    return torch.var(input, dim, correction=correction, keepdim=keepdim)


def _std(*args: Any, **kwargs: Any) -> Any:
    return _var(*args, **kwargs).sqrt()


def _norm(input: Tensor, p: Any = 2, dim: Dim = None, keepdim: bool = False, dtype: Any = None) -> Any:
    if dtype is not None or (isinstance(p, str) and p != "fro"):
        raise Unsupported(f"with p={p!r}, dtype={dtype}")
    return torch.linalg.vector_norm(input, 2 if p in ("fro", None) else p, dim, keepdim=keepdim)


def _linalg_norm(input: Tensor, ord: Any = None, dim: Dim = None, keepdim: bool = False) -> Any:
    if isinstance(ord, str) or (ord is not None and dim is None and input.dim() > 1) or isinstance(dim, tuple):
        raise Unsupported("as the norm of a matrix")
    return torch.linalg.vector_norm(input, 2 if ord is None else ord, dim, keepdim=keepdim)


def _normalize(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Any:
    norm = torch.linalg.vector_norm(input, p, dim, keepdim=True)
    return input / norm.clamp(min=eps)


def _cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Any:
    first = torch.linalg.vector_norm(x1, 2, dim).clamp(min=eps)
    second = torch.linalg.vector_norm(x2, 2, dim).clamp(min=eps)
    return (x1 * x2).sum(dim) / (first * second)


def _rms_norm(input: Tensor, normalized_shape: Any, weight: Tensor | None = None, eps: float | None = None) -> Any:
    if eps is None:
        raise Unsupported("without eps, which then depends on the dtype; give eps=")
    dim = -1 if len(normalized_shape) == 1 else tuple(range(-len(normalized_shape), 0))
    out = input * torch.rsqrt((input * input).mean(dim, keepdim=True) + eps)
    return out if weight is None else out * weight


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    if dropout_p or enable_gqa:
        raise Unsupported("with dropout_p or enable_gqa")
    scores = query @ key.mT * (query.shape[-1] ** -0.5 if scale is None else scale)
    if is_causal:
        seen = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool, device=query.device).tril()
        scores = torch.where(seen, scores, float("-inf"))
    if attn_mask is not None:
        is_boolean = attn_mask.dtype == torch.bool
        scores = torch.where(attn_mask, scores, float("-inf")) if is_boolean else scores + attn_mask
    return torch.softmax(scores, -1) @ value


def _reduce(loss: Tensor, reduction: str) -> Any:
    if reduction == "none":
        return loss
    return loss.mean() if reduction == "mean" else loss.sum()


def _huber(difference: Tensor, delta: float, scale: Any) -> Any:
    """delta * (|d| - delta / 2), and d² / 2 below delta; `scale` of it."""
    size = difference.abs()
    return torch.where(size < delta, 0.5 * difference**2 * scale, delta * (size - 0.5 * delta) * scale)


def _smooth_l1_loss(input: Tensor, target: Tensor, reduction: str = "mean", beta: float = 1.0) -> Any:
    if beta == 0:
        return _reduce((input - target).abs(), reduction)
    return _reduce(_huber(input - target, beta, 1 if beta == 1 else 1 / beta), reduction)


def _huber_loss(
    input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0, weight: Tensor | None = None
) -> Any:
    if weight is not None:
        raise Unsupported("with weights")
    return _reduce(_huber(input - target, delta, 1), reduction)


def _mse_loss(input: Tensor, target: Tensor, reduction: str = "mean", weight: Tensor | None = None) -> Any:
    if weight is not None:
        raise Unsupported("with weights")
    return _reduce((input - target) ** 2, reduction)


def _l1_loss(input: Tensor, target: Tensor, reduction: str = "mean", weight: Tensor | None = None) -> Any:
    if weight is not None:
        raise Unsupported("with weights")
    return _reduce((input - target).abs(), reduction)


def _glu(input: Tensor, dim: int = -1) -> Any:
    value, gate = input.chunk(2, dim)
    return value * torch.sigmoid(gate)


def _embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Any:
    if padding_idx is not None or max_norm is not None or scale_grad_by_freq or sparse:
        raise Unsupported("with padding_idx, max_norm, scale_grad_by_freq or sparse")
    return weight[input]


def _addmm(input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: float = 1, alpha: float = 1) -> Any:
    product = mat1 @ mat2
    return (input if beta == 1 else beta * input) + (product if alpha == 1 else alpha * product)


def _extreme(values: Callable[..., Any], pair: Callable[..., Any]) -> Callable[..., Any]:
    """torch.max and torch.min of everything, or of two tensors; with a dimension they are an operation with a rule."""

    def rewrite(input: Tensor, other: Tensor | None = None) -> Any:
        return values(input) if other is None else pair(input, other)

    return rewrite


REWRITES: dict[str, Callable[..., Any]] = {
    "max": _extreme(torch.amax, torch.maximum),
    "min": _extreme(torch.amin, torch.minimum),
    "add": _add,
    "sub": lambda input, other, alpha: input - alpha * other,
    "square": lambda input: input**2,
    "reciprocal": lambda input: 1 / input,
    "addcmul": lambda input, tensor1, tensor2, value=1: input + value * tensor1 * tensor2,
    "addcdiv": lambda input, tensor1, tensor2, value=1: input + value * tensor1 / tensor2,
    "lerp": lambda input, end, weight: input + weight * (end - input),
    "clamp_min": lambda input, min: input.clamp(min=min),
    "clamp_max": lambda input, max: input.clamp(max=max),
    "hypot": lambda input, other: (input**2 + other**2).sqrt(),
    "logaddexp": lambda input, other: torch.stack([input, other]).logsumexp(0),
    "logit": lambda input: torch.log(input / (1 - input)),
    "softmin": lambda input, dim, dtype=None: torch.softmax(-input, dim, dtype=dtype),
    "relu6": lambda input: input.clamp(0, 6),
    "hardtanh": lambda input, min_val=-1.0, max_val=1.0: input.clamp(min_val, max_val),
    "softsign": lambda input: input / (1 + input.abs()),
    "tanhshrink": lambda input: input - input.tanh(),
    "mish": lambda input: input * torch.tanh(torch.nn.functional.softplus(input)),
    "glu": _glu,
    "var": _var,
    "std": _std,
    "norm": _norm,
    "linalg_norm": _linalg_norm,
    "normalize": _normalize,
    "cosine_similarity": _cosine_similarity,
    "rms_norm": _rms_norm,
    "scaled_dot_product_attention": _attention,
    "smooth_l1_loss": _smooth_l1_loss,
    "huber_loss": _huber_loss,
    "mse_loss": _mse_loss,
    "l1_loss": _l1_loss,
    "embedding": _embedding,
    "addmm": _addmm,
    "reshape_as": lambda input, other: input.reshape(other.shape),
    "view_as": lambda input, other: input.reshape(other.shape),
    "swapaxes": lambda input, axis0, axis1: input.transpose(axis0, axis1),
    "ravel": lambda input: input.flatten(),
    "t": lambda input: input.mT if input.dim() == 2 else input,
    "adjoint": lambda input: input.mT,
    "ger": torch.outer,
}
