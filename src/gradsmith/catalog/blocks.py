"""Attention block by block: a few queries against a few keys at a time, so that the matrix of scores never exists.

The online softmax of Milakov and Gimelshein (https://arxiv.org/abs/1805.02867) gives the output in one pass over the
keys, and the algorithm of Dao et al. (https://arxiv.org/abs/2205.14135) the gradients, from scores that are computed
again. All of it may be batched, differentiated and traced as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from gradsmith.catalog.rows import accumulation, watched

_SCORES = 2**21  # elements of a block, over all heads: what a cache holds
_SMALLEST, _LARGEST = 64, 512  # rows of it; columns are twice as many


@dataclass(frozen=True)
class Sizes:
    """How queries and keys are laid out: the dimensions in front as one, and the heads that share keys as another."""

    lead: torch.Size  # of the queries: (*, Hq)
    batch: int  # that times Hkv
    groups: int  # Hq / Hkv
    queries: int
    keys: int

    @staticmethod
    def of(query: Tensor, key: Tensor) -> Sizes:
        lead, batch = query.shape[:-2], key.shape[:-2].numel()
        return Sizes(lead, batch, lead.numel() // batch if batch else 1, query.shape[-2], key.shape[-2])

    def grouped(self, tensor: Tensor) -> Tensor:
        """(*, Hq, L, …) as (batch, groups, L, …)."""
        return tensor.reshape(self.batch, self.groups, *tensor.shape[len(self.lead) :])

    def merged(self, tensor: Tensor) -> Tensor:
        """(*, Hkv, S, E) as (batch, S, E)."""
        return tensor.reshape(self.batch, *tensor.shape[-2:])

    @property
    def step(self) -> int:
        """Rows of a block."""
        room = _SCORES // 2 // max(1, self.batch * self.groups)
        return min(_LARGEST, max(_SMALLEST, int(room**0.5)))

    @property
    def columns(self) -> list[range]:
        """The blocks of keys, with twice as many columns as rows."""
        return _ranges(self.keys, 2 * self.step)


@dataclass(frozen=True)
class Rule:
    """Which scores there are: scale · q·k, plus a mask or where a boolean one allows, and none ahead if causal."""

    mask: Tensor | None  # at least two dimensions, broadcastable to (*, Hq, L, S)
    causal: bool
    scale: float

    def scores(
        self, query: Tensor, key: Tensor, sizes: Sizes, rows: range, columns: range, less: Tensor | None = None
    ) -> Tensor:
        """(batch, groups, rows, columns), from query (batch, groups, rows, E) and key (batch, columns, E).

        If given, a number is taken off for each query: `less` is (batch, groups, rows).
        """
        scores = _products(query * self.scale, key, less)
        if self.mask is not None:
            mask = self._mask(sizes, rows, columns)
            allowed = mask.dtype == torch.bool
            scores = scores.masked_fill(~mask, -torch.inf) if allowed else _over(scores, "add", mask.to(scores.dtype))
        if self.causal and columns[-1] > rows[0]:
            row, column = (torch.arange(at.start, at.stop, device=scores.device) for at in (rows, columns))
            scores = scores.masked_fill(column > row[:, None], -torch.inf)
        return scores

    def _mask(self, sizes: Sizes, rows: range, columns: range) -> Tensor:
        assert self.mask is not None
        whole = self.mask.expand(*sizes.lead, sizes.queries, sizes.keys)
        return sizes.grouped(whole[..., _slice(rows), _slice(columns)])

    def columns(self, rows: range, sizes: Sizes) -> Iterator[range]:
        """The blocks of keys that these queries see."""
        for columns in sizes.columns:
            if not (self.causal and columns[0] > rows[-1]):
                yield columns


def _products(left: Tensor, right: Tensor, less: Tensor | None = None) -> Tensor:
    """left rightᵀ - less, where all of a group share the right: (batch, groups, r, E), (batch, c, E).

    What is taken off is one more column of both, which costs no pass over the result.
    """
    if less is not None:
        left = torch.cat((left, -less[..., None]), -1)
        right = torch.cat((right, torch.ones_like(right[..., :1])), -1)
    products: Tensor = torch.bmm(left.flatten(1, 2), right.mT).unflatten(1, left.shape[1:3])
    return products


def _over(fresh: Tensor, operation: str, *others: Tensor) -> Tensor:
    """An operation on a tensor that nobody else has: in place, unless it may be differentiated, batched or traced."""
    result: Tensor = getattr(fresh, operation if watched() else f"{operation}_")(*others)
    return result


def _ranges(length: int, step: int) -> list[range]:
    return [range(start, min(start + step, length)) for start in range(0, length, step)]


def _slice(at: range) -> slice:
    return slice(at.start, at.stop)


def forward(query: Tensor, key: Tensor, value: Tensor, rule: Rule) -> tuple[Tensor, Tensor]:
    """The output, and the logarithm of each row's sum of exponentials; 0 where a row is masked out.

    Over the blocks of keys, m is the largest score so far, l = Σ e^(s - m) and a = Σ e^(s - m) v; a larger m shrinks l
    and a by e^(m_before - m). In the end the output is a/l.
    """
    sizes = Sizes.of(query, key)
    wide = accumulation(query.dtype)
    queries, keys, values = sizes.grouped(query), sizes.merged(key), sizes.merged(value)
    outs, sums = [], []
    for rows in _ranges(sizes.queries, sizes.step):
        q = queries[:, :, _slice(rows)].to(wide)
        top = q.new_full(q.shape[:3], -torch.inf)
        total = q.new_zeros(q.shape[:3])
        mixed = q.new_zeros(*q.shape[:3], value.shape[-1])
        for columns in rule.columns(rows, sizes):
            k, v = (tensor[:, _slice(columns)].to(wide) for tensor in (keys, values))
            scores = rule.scores(q, k, sizes, rows, columns)
            higher = torch.maximum(top, scores.detach().amax(-1))
            base = torch.where(higher == -torch.inf, 0, higher)  # of a row that has nothing so far
            weights, shrink = torch.exp(scores - base[..., None]), torch.exp(top - base)
            total = total * shrink + weights.sum(-1)
            mixed = mixed * shrink[..., None] + _mix(weights, v)
            top = higher
        nothing = total == 0
        total = total.masked_fill(nothing, 1)
        outs.append(mixed / total[..., None])
        sums.append(top.masked_fill(nothing, 0) + total.log())
    shape = (*sizes.lead, sizes.queries)
    if not outs:
        return query.new_zeros(*shape, value.shape[-1]), query.new_zeros(shape, dtype=wide)
    out = torch.cat(outs, 2).reshape(*shape, value.shape[-1])
    return out.to(query.dtype), torch.cat(sums, 2).reshape(shape)


def _mix(weights: Tensor, values: Tensor) -> Tensor:
    """weights @ values, where all of a group share the values: (batch, groups, r, c) and (batch, c, E)."""
    mixed: Tensor = torch.bmm(weights.flatten(1, 2), values).unflatten(1, weights.shape[1:3])
    return mixed


Gradients = tuple[Tensor, Tensor, Tensor, Tensor | None]


def backward(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    rule: Rule,
    out: Tensor,
    lse: Tensor,
    for_mask: bool,
    dmask: Tensor | None = None,
) -> Gradients:
    """The gradients of query, key, value and, if asked for, of the mask, which is added to `dmask` where that is given.

    With p = e^(s - lse) computed again for each block, g the upstream gradient and δ = Σ g · out of each row,

        ∂L/∂v += pᵀ g,    ds = p (g vᵀ - δ),    ∂L/∂q += ds k scale,    ∂L/∂k += dsᵀ q scale,    ∂L/∂mask += ds
    """
    sizes, mask = Sizes.of(query, key), rule.mask if for_mask else None
    wide = accumulation(query.dtype)
    queries, keys, values = sizes.grouped(query), sizes.merged(key), sizes.merged(value)
    upstream, total = sizes.grouped(grad), sizes.grouped(lse)
    delta = (upstream.to(wide) * sizes.grouped(out).to(wide)).sum(-1)
    blocks = sizes.columns
    # Transposed: the products of matrices that give them are a fourth quicker.
    dk = [torch.zeros_like(keys[:, _slice(at)].mT, dtype=wide) for at in blocks]
    dv = [torch.zeros_like(values[:, _slice(at)].mT, dtype=wide) for at in blocks]
    dq = []
    if dmask is None and mask is not None:
        dmask = delta.new_zeros(mask.shape)  # batched if anything is
    for rows in _ranges(sizes.queries, sizes.step):
        here = _slice(rows)
        q, g = (tensor[:, :, here].to(wide).contiguous() for tensor in (queries, upstream))  # an expanded one is slow
        flat_q, flat_g, dq_rows = (tensor.flatten(1, 2) for tensor in (q, g, torch.zeros_like(q)))
        for index, columns in enumerate(rule.columns(rows, sizes)):
            k, v = (tensor[:, _slice(columns)].to(wide) for tensor in (keys, values))
            weights = _over(rule.scores(q, k, sizes, rows, columns, total[:, :, here]), "exp")
            dv[index] = torch.baddbmm(dv[index], flat_g.mT, weights.flatten(1, 2))
            slope = _over(_products(g, v, delta[:, :, here]), "mul", weights)
            dk[index] = torch.baddbmm(dk[index], flat_q.mT, slope.flatten(1, 2), alpha=rule.scale)
            dq_rows = torch.baddbmm(dq_rows, slope.flatten(1, 2), k, alpha=rule.scale)
            if dmask is not None:
                part = _part(dmask, rows, columns)
                part += slope.reshape(*sizes.lead, len(rows), len(columns)).sum_to_size(part.shape)
        dq.append(dq_rows.view_as(q))
    return (
        torch.cat(dq, 2).reshape(query.shape).to(query.dtype),
        torch.cat(dk, 2).mT.reshape(key.shape).to(key.dtype),
        torch.cat(dv, 2).mT.reshape(value.shape).to(value.dtype),
        None if mask is None or dmask is None else dmask.to(mask.dtype),
    )


def _part(mask: Tensor, rows: range, columns: range) -> Tensor:
    """The part of a mask that belongs to a block; a dimension of size 1 belongs to all."""
    part = [_slice(at) if size > 1 else slice(None) for at, size in zip((rows, columns), mask.shape[-2:], strict=True)]
    return mask[..., part[0], part[1]]


def second_order(
    cotangents: tuple[Tensor, Tensor, Tensor],
    for_mask: Tensor | None,
    upstream: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    rule: Rule,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
    """The vjp of `backward`: gradients of upstream, query, key, value and, if it has a cotangent, of the mask.

    Autodiff of autodiff of the output, with whole rows of scores, as many rows at a time as a block has elements.
    """
    sizes, (for_query, for_key, for_value) = Sizes.of(query, key), cotangents
    wide = accumulation(query.dtype)
    masks = [] if for_mask is None or rule.mask is None else [rule.mask.to(wide)]
    by_row = [sizes.grouped(tensor).to(wide) for tensor in (upstream, query, for_query)]
    whole = [*(sizes.merged(tensor).to(wide) for tensor in (key, value)), *masks]
    arriving = [sizes.merged(tensor).to(wide) for tensor in (for_key, for_value)]
    arriving += [] if for_mask is None else [for_mask.view(masks[0].shape).to(wide)]
    step = max(1, _SCORES // (sizes.batch * sizes.groups * sizes.keys))
    du, dq, sums = [], [], [torch.zeros_like(tensor) for tensor in whole]
    for rows in _ranges(sizes.queries, step):
        u, q, cotangent = (tensor[:, :, _slice(rows)] for tensor in by_row)
        first_order = partial(_rows_backward, rule, sizes, rows)
        for_u, for_q, *more = _pullback(first_order, (u, q, *whole), (cotangent, *arriving))
        du.append(for_u)
        dq.append(for_q)
        sums = [total + part for total, part in zip(sums, more, strict=True)]
    return (
        torch.cat(du, 2).reshape(upstream.shape).to(upstream.dtype),
        torch.cat(dq, 2).reshape(query.shape).to(query.dtype),
        sums[0].reshape(key.shape).to(key.dtype),
        sums[1].reshape(value.shape).to(value.dtype),
        None if rule.mask is None or not masks else sums[2].to(rule.mask.dtype),
    )


def _rows_backward(rule: Rule, sizes: Sizes, rows: range, upstream: Tensor, *arguments: Tensor) -> tuple[Tensor, ...]:
    """The gradients of the output of some queries."""
    return _pullback(partial(_rows, rule, sizes, rows), arguments, upstream)


def _rows(rule: Rule, sizes: Sizes, rows: range, query: Tensor, key: Tensor, value: Tensor, *mask: Tensor) -> Tensor:
    """The output of some queries, from all of their scores at once."""
    rule = replace(rule, mask=mask[0]) if mask else rule
    scores = rule.scores(query, key, sizes, rows, range(sizes.keys))
    nothing = (scores == -torch.inf).all(-1, keepdim=True)
    weights = torch.softmax(scores.masked_fill(nothing, 0), -1).masked_fill(nothing, 0)
    return _mix(weights, value)


def _pullback(function: Callable[..., Any], arguments: Sequence[Tensor], upstream: Any) -> tuple[Tensor, ...]:
    pull = torch.func.vjp(function, *arguments)[1]
    return pull(upstream)  # type: ignore[no-any-return]
