"""Attention that never holds the matrix of its scores."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from gradsmith.catalog import _private, blocks, heads
from gradsmith.catalog.plainly import plainly
from gradsmith.catalog.rows import accumulation
from gradsmith.define._private import forward_ad_active
from gradsmith.define.keep import constant, keep
from gradsmith.define.op import op

Gradients = tuple[Tensor, Tensor, Tensor, Tensor | None]


@op(cast="inputs")
def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    attn_mask: Tensor | None = None,
    is_causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """softmax(query keyᵀ scale + mask) value: as `torch.nn.functional.scaled_dot_product_attention` without dropout.

    With scores s, p = softmax(s) and o = p v of each query, and the upstream gradient g, the rule of the softmax gives

        ∂L/∂v = pᵀ g        ds = p (g vᵀ - δ),  δ = Σ g · o        ∂L/∂q = ds k scale        ∂L/∂k = dsᵀ q scale

    and ds is the gradient of a mask that is added. Scores and p exist for one block of queries and keys at a time, and
    are computed again in the backward from the logarithm of each row's sum of exponentials. Blocks that lie ahead of a
    causal diagonal are passed over.

    Args:
        query: (*, Hq, L, E), a floating-point dtype. Of half and bfloat16 the sums are taken in float32.
        key: (*, Hkv, S, E), where Hq is a multiple of Hkv: each key then serves Hq/Hkv queries in a row.
        value: (*, Hkv, S, Ev).
        attn_mask: broadcastable to (*, Hq, L, S). True where a boolean one lets a query see a key; a float one is added
            to the scores, and has a gradient if it requires one.
        is_causal: a query sees the keys of its own position and before it, counted from the first of both, as in
            torch. With a mask both hold, where torch takes one only.
        scale: 1/√E if None.

    Returns:
        (*, Hq, L, Ev), in the dtype of query. A query that sees no key gives 0, and has the gradient 0.

    Saves: query, key, value, the mask, the output and one number for each query: as torch's fused kernel. On the CPU
    that kernel does the work where it can, and blocks of torch operations where not (a mask with a gradient, Ev other
    than E, torch.func), still without L x S scores. A second derivative takes whole rows of scores, a few queries at a
    time.
    Source: Dao et al., https://arxiv.org/abs/2205.14135; Milakov and Gimelshein, https://arxiv.org/abs/1805.02867.

    Raises RuntimeError where the shapes or dtypes do not fit together.

    >>> q, k = torch.zeros(1, 2, 4), torch.zeros(1, 3, 4)
    >>> attention(q, k, torch.arange(3.0).view(1, 3, 1))
    tensor([[[1.],
             [1.]]])
    """
    _check(query, key, value, attn_mask)
    kernel = _kernel_arguments(query, key, value, attn_mask)
    if kernel is not None and _private.flash_attention is not None:
        options = {"attn_mask": kernel[3], "scale": _scale(query, scale)}
        out, lse = _private.flash_attention(*kernel[:3], 0.0, is_causal, **options)
        # Side by side as the heads are merged after it, so that merging copies nothing and saves no second time.
        out = out.transpose(1, 2).contiguous().transpose(1, 2).reshape(query.shape)
        lse = lse.reshape(query.shape[:-1])
    else:
        out, lse = heads.forward(query, key, value, _rule(query, attn_mask, is_causal, scale))
    return keep(out, lse=constant(lse))  # type: ignore[return-value]  # constant: _first_order knows what it comes from


@attention.vjp("query", "key", "value", "attn_mask")
def _(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None,
    is_causal: bool,
    scale: float | None,
    out: Tensor,
    lse: Tensor,
    needs: Mapping[str, bool],
) -> Gradients:
    first_order = attention_gradients.forward if plainly() else attention_gradients
    return first_order(
        grad, query, key, value, attn_mask, is_causal, scale, out.detach(), lse.detach(), needs["attn_mask"]
    )


@op(outputs=("for_query", "for_key", "for_value", "for_mask"), out=None, lse=None)
def attention_gradients(
    upstream: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None,
    is_causal: bool,
    scale: float | None,
    out: Tensor,
    lse: Tensor,
    with_mask: bool,
) -> Gradients:
    """The gradients of `attention`, as a function with a derivative of its own.

    `out` and `lse` are what query, key, value and mask give, so their part in the derivative is counted with theirs.
    """
    if not out.numel() or not key.shape[-2]:
        return _zeros(query, key, value, attn_mask)  # type: ignore[return-value]
    kernel = None if with_mask else _kernel_arguments(query, key, value, attn_mask)
    if kernel is not None and _private.flash_attention_backward is not None:
        g, o, sums = _four(upstream), _four(out), lse.reshape(kernel[0].shape[:-1])
        options = {"attn_mask": kernel[3], "scale": _scale(query, scale)}
        dq, dk, dv = _private.flash_attention_backward(g, *kernel[:3], o, sums, 0.0, is_causal, **options)
        return dq.reshape(query.shape), dk.reshape(key.shape), dv.reshape(value.shape), None
    rule = _rule(query, attn_mask, is_causal, scale)
    dq, dk, dv, dmask = heads.backward(upstream, query, key, value, rule, out, lse, with_mask)
    return dq, dk, dv, None if dmask is None or attn_mask is None else dmask.view(attn_mask.shape)


@attention_gradients.vjp("upstream", "query", "key", "value", "attn_mask")
def _(
    grad_for_query: Tensor,
    grad_for_key: Tensor,
    grad_for_value: Tensor,
    grad_for_mask: Tensor | None,
    upstream: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None,
    is_causal: bool,
    scale: float | None,
    with_mask: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
    """Autodiff of the gradients, which are autodiff of `blocks.rows`, a few rows of scores at a time."""
    if not upstream.numel() or not key.shape[-2]:
        return _zeros(upstream, query, key, value, attn_mask)  # type: ignore[return-value]
    cotangents = (grad_for_query, grad_for_key, grad_for_value)
    rule = _rule(query, attn_mask, is_causal, scale)
    du, dq, dk, dv, dmask = blocks.second_order(cotangents, grad_for_mask, upstream, query, key, value, rule)
    return du, dq, dk, dv, None if dmask is None or attn_mask is None else dmask.view(attn_mask.shape)


def _zeros(*tensors: Tensor | None) -> tuple[Tensor | None, ...]:
    """The gradients where there is no score at all."""
    return tuple(None if tensor is None else torch.zeros_like(tensor) for tensor in tensors)


def _rule(query: Tensor, attn_mask: Tensor | None, is_causal: bool, scale: float | None) -> blocks.Rule:
    return blocks.Rule(attn_mask if attn_mask is None else torch.atleast_2d(attn_mask), is_causal, _scale(query, scale))


def _scale(query: Tensor, scale: float | None) -> float:
    return float(max(1, query.shape[-1])) ** -0.5 if scale is None else float(scale)


def _kernel_arguments(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor | None] | None:
    """Query, key, value and mask as the CPU's fused kernel takes them, or None where it cannot.

    It has no derivative and no batching rule, wants four dimensions, elements of a row side by side, one size E, and
    one element at least: without queries it divides by zero, without keys its output is NaN.
    """
    if not plainly() or forward_ad_active() or not query.is_cpu or _private.flash_attention is None:
        return None
    if query.shape[-1] != value.shape[-1] or not (query.numel() and key.numel()):
        return None
    if attn_mask is None:
        return _four(query), _four(key), _four(value), None
    if query.dim() > 4 and attn_mask.dim() > 3:
        return None
    if attn_mask.dtype == torch.bool:
        attn_mask = torch.zeros_like(attn_mask, dtype=query.dtype).masked_fill_(~attn_mask, -torch.inf)
    mask = attn_mask.to(accumulation(query.dtype))
    return _four(query), _four(key), _four(value), mask[(None,) * (4 - mask.dim())]


def _four(tensor: Tensor) -> Tensor:
    """As (batch, heads, length, features), with the features side by side and no row within another.

    Of rows that overlap, as `unfold` gives them, torch's kernel makes something else, and says nothing.
    """
    four = tensor[(None,) * (4 - tensor.dim())] if tensor.dim() < 4 else tensor.flatten(0, -4)
    apart = four.shape[-2] == 1 or four.stride(-2) >= four.shape[-1]
    return four if four.stride(-1) == 1 and apart else four.contiguous()


def _check(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None) -> None:
    for name, tensor in (("query", query), ("key", key), ("value", value)):
        if tensor.dim() != max(2, query.dim()) or tensor.dtype != query.dtype or not tensor.is_floating_point():
            raise RuntimeError(
                f"attention: `{name}` is {tensor.dtype} of shape {list(tensor.shape)}; query, key and value need the "
                f"same floating-point dtype and the same number of dimensions, two at least: `query` is {query.dtype} "
                f"of shape {list(query.shape)}"
            )
    if query.shape[-1] != key.shape[-1]:
        raise RuntimeError(
            f"attention: `key` has shape {list(key.shape)}, expected {query.shape[-1]} features as in `query` of shape "
            f"{list(query.shape)}"
        )
    if key.shape[:-1] != value.shape[:-1]:
        raise RuntimeError(
            f"attention: `value` has shape {list(value.shape)}, expected {list(key.shape[:-1])} and its features, as "
            f"`key` has shape {list(key.shape)}"
        )
    heads = [tensor.shape[-3] if tensor.dim() > 2 else 1 for tensor in (query, key)]
    if query.shape[:-3] != key.shape[:-3] or (heads[0] % heads[1] if heads[1] else heads[0]):
        raise RuntimeError(
            f"attention: `key` has shape {list(key.shape)} and `query` {list(query.shape)}; the batch dimensions must "
            f"be the same, and the heads of query (dimension -3) a multiple of those of key"
        )
    if attn_mask is not None:
        _check_mask(query, key, attn_mask)


def _check_mask(query: Tensor, key: Tensor, attn_mask: Tensor) -> None:
    scores = [*query.shape[:-1], key.shape[-2]]
    if attn_mask.dtype != torch.bool and not attn_mask.is_floating_point():
        raise RuntimeError(f"attention: `attn_mask` is {attn_mask.dtype}, expected bool or a floating-point dtype")
    sizes = zip(reversed(attn_mask.shape), reversed(scores), strict=False)
    if attn_mask.dim() > len(scores) or any(size not in (1, whole) for size, whole in sizes):
        raise RuntimeError(
            f"attention: `attn_mask` has shape {list(attn_mask.shape)}, which does not broadcast to the scores' shape "
            f"{scores}"
        )
