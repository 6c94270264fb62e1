"""What the rewrites ask about values."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gradsmith.derive.graph import Node

if TYPE_CHECKING:
    from gradsmith.derive.trace import Tracer

Args = dict[str, Any]
Rewrite = Callable[["Tracer", Args], Node | None]


def is_op(value: Any, op: str) -> bool:
    """Whether a value is this operation on tensors, and free to be taken apart."""
    return isinstance(value, Node) and value.op == op and value.is_tensor and not value.authored


def is_number(value: Any) -> bool:
    return type(value) in (int, float)


def shape_of(value: Any) -> tuple[int, ...]:
    return value.shape if isinstance(value, Node) and value.is_tensor else ()


def is_scalar(value: Any) -> bool:
    """A number, or a tensor without dimensions: it may be multiplied at any place."""
    return shape_of(value) == ()


def is_zero(value: Any) -> bool:
    return is_number(value) and value == 0
