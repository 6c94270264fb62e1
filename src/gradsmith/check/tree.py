"""Nested arguments and outputs: tuples, named tuples, lists and dicts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch


def tree_map(function: Callable[[Any], Any], tree: Any) -> Any:
    """`tree` with `function` applied to every leaf; containers are rebuilt with their own type."""
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(tree_map(function, item) for item in tree))
    if type(tree) in (tuple, list):
        return type(tree)(tree_map(function, item) for item in tree)
    if type(tree) is dict:
        return {key: tree_map(function, item) for key, item in tree.items()}
    return function(tree)


def leaves(tree: Any) -> Iterator[Any]:
    """Every leaf of `tree`, in order."""
    if isinstance(tree, tuple | list):
        for item in tree:
            yield from leaves(item)
    elif type(tree) is dict:
        for item in tree.values():
            yield from leaves(item)
    else:
        yield tree


def tensors(tree: Any) -> list[torch.Tensor]:
    """Every tensor in `tree`, in order."""
    return [leaf for leaf in leaves(tree) if isinstance(leaf, torch.Tensor)]


def is_float(value: Any) -> bool:
    """Whether `value` is a tensor of a dtype that can have a gradient."""
    return isinstance(value, torch.Tensor) and (value.is_floating_point() or value.is_complex())
