"""One node as Python source: operators, methods and functions as a person would write them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as functional

from gradsmith.derive.calls import rule_of
from gradsmith.derive.graph import Node
from gradsmith.derive.plan import FACTS
from gradsmith.derive.rules import Rule

ATOM, POWER, UNARY, LOWEST = 15, 13, 12, 0
_BINARY = {
    "add": ("+", 10),
    "sub": ("-", 10),
    "mul": ("*", 11),
    "div": ("/", 11),
    "matmul": ("@", 11),
    "floor_divide": ("//", 11),
    "remainder": ("%", 11),
    "pow": ("**", POWER),
    "bitwise_and": ("&", 7),
    "bitwise_xor": ("^", 6),
    "bitwise_or": ("|", 5),
    "eq": ("==", 4),
    "ne": ("!=", 4),
    "lt": ("<", 4),
    "le": ("<=", 4),
    "gt": (">", 4),
    "ge": (">=", 4),
}
_SIMPLE = re.compile(r"-?[\w.]+")
_UNARY = {"neg": "-", "bitwise_not": "~"}
_METHODS = {
    *("sum", "mean", "var", "amax", "amin", "max", "min", "cumsum", "argmax", "argmin", "all", "any", "sum_to_size"),
    *("view", "reshape", "flatten", "unflatten", "transpose", "permute", "movedim", "unsqueeze", "squeeze", "expand"),
    *("expand_as", "flip", "roll", "tril", "triu", "select", "narrow", "chunk", "split", "unbind", "topk", "sort"),
    *("to", "type_as", "float", "double", "half", "bfloat16", "long", "int", "bool", "clone", "contiguous", "detach"),
    *("masked_fill", "new_zeros", "new_ones", "new_full", "scatter", "scatter_add", "index_add", "index_put", "clamp"),
    *("slice_scatter", "select_scatter", "index_select", "gather", "count_nonzero"),
}
_PROPERTIES = {"mT", "T"}
_BY_POSITION = {"dim", "weight", "bias"}


@dataclass(frozen=True)
class Text:
    """Source and how tightly its outermost operator binds."""

    source: str
    binds: int = ATOM

    def within(self, binds: int) -> str:
        """In parentheses where what stands around it binds more tightly."""
        return self.source if self.binds >= binds else f"({self.source})"


@dataclass(frozen=True)
class Scope:
    """How the values that an expression uses are called where it stands."""

    text: Callable[[Node], Text]
    attribute: Callable[[Node, str], str]  # (tensor, "shape") -> "x.shape" or "x_shape"
    named: Callable[[Node], bool]  # whether a value has a name of its own


def expression(node: Node, scope: Scope) -> Text:
    """The operation of a node, applied to what its inputs are called in the scope."""
    if node.op in FACTS:
        return Text(_fact(node, scope))
    if node.op == "output":
        return Text(f"{scope.text(node.args['input']).within(ATOM)}[{node.args['index']}]")
    if node.op == "getitem":
        index = _index(node.args["index"], scope)
        return Text(f"{scope.text(node.args['input']).within(ATOM)}[{index}]")
    values = list(node.args.values())
    if node.op in _BINARY and len(values) == 2:
        return _infix(*_BINARY[node.op], values[0], values[1], scope, exact=node.authored)
    if node.op in _UNARY:
        return Text(_UNARY[node.op] + value_text(values[0], scope).within(UNARY), UNARY)
    if node.op in _PROPERTIES:
        return Text(f"{value_text(values[0], scope).within(ATOM)}.{node.op}")
    if node.op.startswith("math."):
        return Text(f"{node.op}({value_text(values[0], scope).source})")
    rule = rule_of(node.op)
    assert rule is not None, node.op
    return Text(_call(node, rule, scope))


def _infix(symbol: str, binds: int, left: Any, right: Any, scope: Scope, *, exact: bool) -> Text:
    """Two operands. Where the order of a product need not be `exact`, 2 * (a * b) is written 2 * a * b."""
    one, two = value_text(left, scope), value_text(right, scope)
    if symbol == "*" and _is_tensor(left) and not _is_tensor(right) and one.binds > binds:
        left, right, one, two = right, left, two, one
    if symbol == "**":
        base, exponent = one.within(ATOM), two.within(UNARY)
        space = "" if _SIMPLE.fullmatch(base) and _SIMPLE.fullmatch(exponent) else " "
        return Text(f"{base}{space}**{space}{exponent}", binds)
    associative = symbol == "*" and not exact and isinstance(right, Node) and right.op == "mul"
    before = one.within(binds + (binds == 4))
    return Text(f"{before} {symbol} {two.within(binds if associative else binds + 1)}", binds)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Node) and value.is_tensor


def _call(node: Node, rule: Rule, scope: Scope) -> str:
    """`x.sum(-1, keepdim=True)`, `torch.exp(x)`, `F.linear(x, weight)`."""
    items = list(node.args.items())
    written: list[str] = []
    if node.op in _METHODS:
        receiver = value_text(items.pop(0)[1], scope).within(ATOM)
        head = f"{receiver}.{node.op}"
    else:
        head = _function(node.op)
    by_keyword = False
    for name, value in items:
        parameter = rule.signature.parameters[name]
        if name == rule.variadic:
            written.append(_sizes(value, scope))
        elif parameter.default is not parameter.empty and _is(value, parameter.default):
            by_keyword = True
        elif parameter.default is parameter.empty or (name in _BY_POSITION and not by_keyword):
            written.append(value_text(value, scope).source)
        else:
            by_keyword = True
            written.append(f"{name}={value_text(value, scope).source}")
    return f"{head}({', '.join(text for text in written if text)})"


def _is(value: Any, default: Any) -> bool:
    return type(value) is type(default) and bool(value == default)


def _function(name: str) -> str:
    if name.startswith("linalg_"):
        return f"torch.linalg.{name.removeprefix('linalg_')}"
    if hasattr(functional, name) and not _same_signature(name):
        return f"F.{name}"
    return f"torch.{name}"


def _same_signature(name: str) -> bool:
    """Whether torch has it under its own name, to be called in the same way."""
    return hasattr(torch, name) and name not in ("layer_norm", "nll_loss", "binary_cross_entropy_with_logits")


def _fact(node: Node, scope: Scope) -> str:
    """`x.shape[-1]`, `x.numel()`, `x.dtype`."""
    where = scope.attribute(node.args["input"], FACTS[node.op])
    if node.op == "size":
        return f"{where}[{value_text(node.args['dim'], scope).source}]"
    if node.op == "numel":
        return f"{where.removesuffix('.shape')}.numel()"
    if node.op == "ndim":
        return f"{where.removesuffix('.shape')}.ndim" if where.endswith(".shape") else f"len({where})"
    return where


def value_text(value: Any, scope: Scope) -> Text:
    """An argument of an operation: a node, or what the author wrote as a constant."""
    if isinstance(value, Node):
        return scope.text(value)
    if isinstance(value, tuple):
        inner = _sizes(value, scope, keep_tuple=True)
        return Text(inner)
    if isinstance(value, bool) or value is None:
        return Text(repr(value))
    if isinstance(value, (int, float)):
        return _number(value)
    if isinstance(value, torch.device):
        return Text(f"torch.device({str(value)!r})")
    return Text(str(value) if isinstance(value, torch.dtype) else quoted(value))


def quoted(value: Any) -> str:
    """`repr`, with strings in double quotes."""
    text = repr(value)
    return json.dumps(value) if isinstance(value, str) and value.isascii() else text


def _number(value: float) -> Text:
    if isinstance(value, float) and not math.isfinite(value):
        return Text(f'float("{value}")')
    return Text(repr(value), UNARY if value < 0 else ATOM)


def _sizes(values: Sequence[Any], scope: Scope, keep_tuple: bool = False) -> str:
    """Sizes or other entries one by one, with the shape of one tensor, or its beginning, taken together."""
    parts: list[str] = []
    at = 0
    while at < len(values):
        run = _run(values, at, scope)
        if run:
            owner: Node = values[at].args["input"]
            shape = scope.attribute(owner, "shape")
            whole = run == len(owner.shape)
            if whole and run == len(values):
                return shape
            parts.append(f"*{shape}" if whole else f"*{shape}[:{run - len(owner.shape)}]")
            at += run
        else:
            parts.append(value_text(values[at], scope).source)
            at += 1
    text = ", ".join(parts)
    if not keep_tuple:
        return text
    return f"({text},)" if len(parts) == 1 else f"({text})"


def _run(values: Sequence[Any], at: int, scope: Scope) -> int:
    """How many of the values from `at` on are the sizes 0, 1, … of one tensor; 0 for fewer than two."""
    run = 0
    for value in values[at:]:
        if not isinstance(value, Node) or value.op != "size" or scope.named(value):
            break
        owner, dim = value.args["input"], value.args["dim"]
        if owner is not values[at].args["input"] or not isinstance(dim, int) or dim % len(owner.shape) != run:
            break
        run += 1
    is_whole = run > 0 and run == len(values[at].args["input"].shape)
    return run if run > 1 or is_whole else 0


def _index(index: Any, scope: Scope) -> str:
    entries = index if isinstance(index, tuple) else (index,)
    texts = [_slice(entry, scope) if isinstance(entry, slice) else _entry(entry, scope) for entry in entries]
    return ", ".join(texts) + ("," if isinstance(index, tuple) and len(texts) == 1 else "")


def _entry(entry: Any, scope: Scope) -> str:
    return "..." if entry is Ellipsis else value_text(entry, scope).source


def _slice(entry: slice, scope: Scope) -> str:
    start, stop = ("" if bound is None else value_text(bound, scope).source for bound in (entry.start, entry.stop))
    return f"{start}:{stop}" + ("" if entry.step is None else f":{value_text(entry.step, scope).source}")
