"""Attention's heads side by side: the blocks of each in a thread, where they share nothing that is written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import torch
from torch import Tensor

from gradsmith.catalog import blocks
from gradsmith.catalog.blocks import Gradients, Rule, Sizes
from gradsmith.catalog.parallel import parallel_for
from gradsmith.catalog.rows import accumulation, watched

Part = tuple[int, ...]  # the indices of a head's mask, one for each dimension in front of its last three


def forward(query: Tensor, key: Tensor, value: Tensor, rule: Rule) -> tuple[Tensor, Tensor]:
    """As `blocks.forward`."""
    sizes = Sizes.of(query, key)
    if watched() or sizes.batch < 2:
        return blocks.forward(query, key, value, rule)
    queries, keys, values, mask = sizes.grouped(query), sizes.merged(key), sizes.merged(value), _by_head(rule, sizes)
    outs = query.new_empty(*queries.shape[:-1], value.shape[-1])
    sums = query.new_empty(queries.shape[:-1], dtype=accumulation(query.dtype))

    def attend(at: tuple[int, Part]) -> None:
        head, part = at
        own = replace(rule, mask=None if mask is None else mask[part])
        outs[head], sums[head] = blocks.forward(queries[head], keys[head, None], values[head, None], own)

    parallel_for(_heads(mask, sizes), attend, query)
    return outs.view(*query.shape[:-1], value.shape[-1]), sums.view(query.shape[:-1])


def backward(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, rule: Rule, out: Tensor, lse: Tensor, for_mask: bool
) -> Gradients:
    """As `blocks.backward`. Heads with the same part of a mask that has a gradient are done one after the other."""
    sizes = Sizes.of(query, key)
    mask = _by_head(rule, sizes)
    together: dict[object, list[tuple[int, Part]]] = {}
    for head, part in _heads(mask, sizes):
        together.setdefault(part if for_mask else head, []).append((head, part))
    if watched() or len(together) < 2:
        return blocks.backward(grad, query, key, value, rule, out, lse, for_mask)
    queries, upstream, outs, sums = (sizes.grouped(tensor) for tensor in (query, grad, out, lse))
    keys, values = sizes.merged(key), sizes.merged(value)
    dq, dk, dv = (torch.empty_like(tensor, memory_format=torch.contiguous_format) for tensor in (queries, keys, values))
    wide = accumulation(query.dtype)
    dmask = None if mask is None or not for_mask else torch.zeros_like(mask, dtype=wide)

    def gradients(some: list[tuple[int, Part]]) -> None:
        for head, part in some:
            own = replace(rule, mask=None if mask is None else mask[part])
            inputs = upstream[head], queries[head], keys[head, None], values[head, None]
            sum_here = None if dmask is None else dmask[part]
            parts = blocks.backward(*inputs, own, outs[head], sums[head], for_mask, sum_here)
            dq[head], dk[head], dv[head] = parts[0], parts[1][0], parts[2][0]

    parallel_for(together.values(), gradients, query)
    shaped = dq.view(query.shape), dk.view(key.shape), dv.view(value.shape)
    return *shaped, None if dmask is None or rule.mask is None else dmask.view(rule.mask.shape).to(rule.mask.dtype)


def _by_head(rule: Rule, sizes: Sizes) -> Tensor | None:
    """The mask with a dimension for each in front of the heads of the keys, then (Hkv, groups, L, S), or 1 for any."""
    if rule.mask is None or not sizes.lead:
        return rule.mask
    mask = rule.mask[(None,) * (len(sizes.lead) + 2 - rule.mask.dim())]
    shared = mask.shape[-3] == 1
    return mask.unsqueeze(-4) if shared else mask.unflatten(-3, (-1, sizes.groups))


def _heads(mask: Tensor | None, sizes: Sizes) -> Iterator[tuple[int, Part]]:
    """Each head of the keys, and its part of the mask."""
    if mask is None or not sizes.lead:
        yield from ((head, ()) for head in range(sizes.batch))
        return
    *lead, heads = sizes.lead
    for head, at in enumerate(product(*map(range, (*lead, heads // sizes.groups)))):
        yield head, tuple(index if size > 1 else 0 for index, size in zip(at, mask.shape, strict=False))
