"""Lists, tuples, named tuples, dicts and dataclasses of tensors: taken apart into leaves, and put together again.

torch's own pytrees leave dataclasses out and are private, and the structure here must be a plain hashable tuple that
torch.compile can trace, since it selects the compiled form of an op.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

Structure = tuple[Any, ...]
LEAF: Structure = ("leaf",)


PLAIN = frozenset({Tensor, Parameter, type(None), bool, int, float, str, torch.dtype, torch.device, torch.Size})


def is_container(value: object) -> bool:
    """Whether `value` is one of the containers that are looked into."""
    if type(value) in PLAIN:  # what most arguments are, told at once
        return False
    return (isinstance(value, (list, tuple, dict)) and not isinstance(value, torch.Size)) or _is_record(value)


def _is_record(value: object) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def flatten(value: Any, leaves: list[Any]) -> Structure:
    """Append the leaves of `value` to `leaves` and return its structure.

    >>> leaves = []
    >>> flatten({"a": 1, "b": [2, 3]}, leaves), leaves
    (('dict', ('a', 'b'), (('leaf',), ('list', None, (('leaf',), ('leaf',))))), [1, 2, 3])
    """
    if not is_container(value):
        leaves.append(value)
        return LEAF
    kind, detail, children = _open(value)
    return (kind, detail, tuple(flatten(child, leaves) for child in children))


def _open(value: Any) -> tuple[str, Any, list[Any]]:
    if isinstance(value, dict):
        return "dict", tuple(value), list(value.values())
    if isinstance(value, list):
        return "list", None, value
    if isinstance(value, tuple):
        return "tuple", (type(value) if hasattr(value, "_fields") else None), list(value)
    names = tuple(f.name for f in dataclasses.fields(value))
    return "dataclass", (type(value), names), [getattr(value, name) for name in names]


def unflatten(structure: Structure, leaves: Iterator[Any]) -> Any:
    """The inverse of `flatten`: take as many leaves from the iterator as the structure has."""
    if structure == LEAF:
        return next(leaves)
    kind, detail, children = structure
    values = [unflatten(child, leaves) for child in children]
    if kind == "dict":
        return dict(zip(detail, values, strict=True))
    if kind == "list":
        return values
    if kind == "tuple":
        return tuple(values) if detail is None else detail(*values)
    record, names = detail
    return record(**dict(zip(names, values, strict=True)))


def size(structure: Structure) -> int:
    """How many leaves the structure has."""
    return 1 if structure == LEAF else sum(size(child) for child in structure[2])


def paths(structure: Structure, root: str) -> list[str]:
    """A name for each leaf, as one would write it in Python.

    >>> paths(('dict', ('w', 'b'), (('leaf',), ('leaf',))), "params")
    ["params['w']", "params['b']"]
    """
    if structure == LEAF:
        return [root]
    kind, detail, children = structure
    if kind == "dict":
        names = [f"{root}[{key!r}]" for key in detail]
    elif kind == "dataclass":
        names = [f"{root}.{name}" for name in detail[1]]
    elif kind == "tuple" and detail is not None:
        names = [f"{root}.{name}" for name in detail._fields]
    else:
        names = [f"{root}[{index}]" for index in range(len(children))]
    return [path for name, child in zip(names, children, strict=True) for path in paths(child, name)]


def map_leaves(function: Any, value: Any) -> Any:
    """`value` with `function` applied to every leaf."""
    leaves: list[Any] = []
    structure = flatten(value, leaves)
    return unflatten(structure, iter([function(leaf) for leaf in leaves]))
