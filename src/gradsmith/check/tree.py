"""Nested arguments and outputs: tuples, named tuples, lists, dicts and dataclasses."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterable, Iterator
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
    if _is_record(tree):
        mapped = copy.copy(tree)
        for name, item in _fields(tree):
            object.__setattr__(mapped, name, tree_map(function, item))  # a frozen one, too
        return mapped
    return function(tree)


def map_tensors(function: Callable[[torch.Tensor], Any], tree: Any) -> Any:
    """`tree` with `function` applied to every tensor."""
    return tree_map(lambda leaf: function(leaf) if isinstance(leaf, torch.Tensor) else leaf, tree)


def leaves(tree: Any) -> Iterator[Any]:
    """Every leaf of `tree`, in order."""
    if isinstance(tree, tuple | list):
        for item in tree:
            yield from leaves(item)
    elif isinstance(tree, dict):
        for item in tree.values():
            yield from leaves(item)
    elif _is_record(tree):
        for _, item in _fields(tree):
            yield from leaves(item)
    else:
        yield tree


def paths(tree: Any, root: str) -> list[tuple[str, Any]]:
    """Every leaf as `tree_map` meets it, by its name as one would write it in Python.

    >>> paths({"w": 1, "b": (2, 3)}, "params")
    [("params['w']", 1), ("params['b'][0]", 2), ("params['b'][1]", 3)]
    """
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        inside = [(f"{root}.{name}", item) for name, item in zip(tree._fields, tree, strict=True)]
    elif type(tree) in (tuple, list):
        inside = [(f"{root}[{index}]", item) for index, item in enumerate(tree)]
    elif type(tree) is dict:
        inside = [(f"{root}[{key!r}]", item) for key, item in tree.items()]
    elif _is_record(tree):
        inside = [(f"{root}.{name}", item) for name, item in _fields(tree)]
    else:
        return [(root, tree)]
    return [found for name, item in inside for found in paths(item, name)]


def rebuilt(tree: Any, values: Iterable[Any]) -> Any:
    """`tree` with other leaves, in the order of `paths`."""
    others = iter(values)
    return tree_map(lambda _: next(others), tree)


def tensors(tree: Any) -> list[torch.Tensor]:
    """Every tensor in `tree`, in order."""
    return [leaf for leaf in leaves(tree) if isinstance(leaf, torch.Tensor)]


def is_float(value: Any) -> bool:
    """Whether `value` is a tensor of a dtype that can have a gradient."""
    return isinstance(value, torch.Tensor) and (value.is_floating_point() or value.is_complex())


def _is_record(tree: Any) -> bool:
    """Whether it is a dataclass that holds tensors; one of settings is a leaf."""
    if not dataclasses.is_dataclass(tree) or isinstance(tree, type):
        return False
    return any(tensors(item) for _, item in _fields(tree))


def _fields(record: Any) -> list[tuple[str, Any]]:
    return [(field.name, getattr(record, field.name)) for field in dataclasses.fields(record)]
