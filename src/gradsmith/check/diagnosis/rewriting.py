"""The slips of a pen, undone: other expressions in the place of one, the likeliest first.

Each rule is given an expression of a `backward` and proposes what the author may have meant.
"""

from __future__ import annotations

import ast
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from gradsmith.check.diagnosis.source import Backward

ALIKE = (
    ("sin", "cos"), ("sinh", "cosh"), ("sigmoid", "tanh"), ("exp", "log"), ("exp", "expm1"), ("sqrt", "square"),
    ("sqrt", "rsqrt"), ("square", "abs"), ("erf", "tanh"), ("softmax", "log_softmax"), ("sum", "mean"),
    ("std", "var"), ("cumsum", "cumprod"), ("scatter", "scatter_add"), ("index_copy", "index_add"), ("mT", "mH"),
)  # fmt: skip
MOST = 2500  # rewritings tried


@dataclass(frozen=True)
class Rewriting:
    """`before` on `line` of the author's file, written as `after`."""

    line: int
    before: str
    after: str


@dataclass(frozen=True)
class Scope:
    """Where an expression stands: what it is a part of, and the names bound on the lines before it."""

    parents: dict[ast.AST, ast.AST]
    bound: dict[str, int]

    def names(self, line: int) -> list[str]:
        return [name for name, first in self.bound.items() if first < line]


def rewritings(backward: Backward) -> Iterator[Rewriting]:
    """Each rewriting in turn; while it is yielded, the backward's tree is rewritten so."""
    tree = backward.tree
    parents = {child: parent for parent in ast.walk(tree) for child in ast.iter_child_nodes(parent)}
    scope = Scope(parents, _bound(backward))
    expressions = [node for node in ast.walk(tree) if isinstance(node, ast.expr) and node in parents]
    every = ((rule, node) for rule in RULES for node in expressions)
    seen: set[tuple[ast.expr, str]] = set()
    count = 0
    for rule, node in every:
        before = ast.unparse(node)
        for new in rule(node, scope):
            after = ast.unparse(new)
            if after == before or (node, after) in seen:
                continue
            seen.add((node, after))
            count += 1
            if count > MOST:
                return
            with _replaced(parents[node], node, ast.copy_location(new, node)):
                yield Rewriting(node.lineno, before, after)


def _bound(backward: Backward) -> dict[str, int]:
    """The names of tensors, and the lines on which they are first bound."""
    bound = dict.fromkeys(backward.upstream, 0)
    for node in ast.walk(backward.tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound.setdefault(node.id, node.lineno)
    return bound


@contextmanager
def _replaced(parent: ast.AST, old: ast.expr, new: ast.expr) -> Iterator[None]:
    def put(out: ast.expr, into: ast.expr) -> None:
        for name, value in ast.iter_fields(parent):
            if value is out:
                setattr(parent, name, into)
            elif isinstance(value, list):
                value[:] = [into if item is out else item for item in value]

    put(old, new)
    try:
        yield
    finally:
        put(new, old)


# -- the rules
# -----------------------------------------------------------------------------------------------------------


def other_operator(node: ast.expr, scope: Scope) -> Iterator[ast.expr]:
    if isinstance(node, ast.BinOp):
        left, right = node.left, node.right
        if isinstance(node.op, ast.Add | ast.Sub | ast.Mult | ast.Div):
            for operator in (ast.Sub(), ast.Add(), ast.Mult(), ast.Div()):
                yield ast.BinOp(left, operator, right)
        yield ast.BinOp(right, node.op, left)
        if isinstance(node.op, ast.Pow):
            for step in (ast.Sub(), ast.Add()):
                yield ast.BinOp(left, ast.Pow(), ast.BinOp(right, step, ast.Constant(1)))
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        for comparison in (ast.Gt(), ast.Lt()):
            yield ast.Compare(node.left, [comparison], node.comparators)


def other_name(node: ast.expr, scope: Scope) -> Iterator[ast.expr]:
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in scope.bound:
        for name in scope.names(node.lineno):
            yield ast.Name(name, ast.Load())
    if isinstance(node, ast.Tuple) and isinstance(node.ctx, ast.Store):
        for first, second in itertools.combinations(range(len(node.elts)), 2):
            order = list(node.elts)
            order[first], order[second] = order[second], order[first]
            yield ast.Tuple(order, ast.Store())


def other_function(node: ast.expr, scope: Scope) -> Iterator[ast.expr]:
    """Another of the same kind, its branches exchanged, or none."""
    if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
        for pair in ALIKE:
            if node.attr in pair:
                yield ast.Attribute(node.value, pair[1 - pair.index(node.attr)], ast.Load())
        if node.attr in ("mT", "mH", "T", "data"):
            yield node.value
    if not isinstance(node, ast.Call):
        return
    if isinstance(node.func, ast.Attribute) and not _is_module(node.func.value, scope):
        yield node.func.value
    elif node.args and not isinstance(node.args[0], ast.Starred):
        yield node.args[0]
    if ast.unparse(node.func).endswith("where") and len(node.args) == 3:
        yield ast.Call(node.func, [node.args[0], node.args[2], node.args[1]], node.keywords)
    if ast.unparse(node.func).endswith("einsum") and isinstance(node.args[0], ast.Constant):
        for text in _letters(str(node.args[0].value)):
            yield ast.Call(node.func, [ast.Constant(text), *node.args[1:]], node.keywords)


def _is_module(node: ast.expr, scope: Scope) -> bool:
    return isinstance(node, ast.Name) and node.id not in scope.bound


def _letters(equation: str) -> Iterator[str]:
    """Two letters of one operand, or of the result, exchanged."""
    for first, second in itertools.combinations(range(len(equation)), 2):
        between = equation[first : second + 1]
        if between.isalpha():
            yield equation[:first] + between[-1] + between[1:-1] + between[0] + equation[second + 1 :]


def other_number(node: ast.expr, scope: Scope) -> Iterator[ast.expr]:
    """A factor, an exponent, a dimension, a keepdim."""
    if not isinstance(node, ast.Constant):
        return
    if isinstance(node.value, bool):
        yield ast.Constant(not node.value)
    elif isinstance(node.value, int | float):
        parent = scope.parents[node]
        if not isinstance(parent, ast.BinOp):  # a dimension
            for dimension in (0, -1, -2, 1):
                yield ast.Constant(dimension)
            return
        inverse = 1 / node.value if node.value else 0
        for value in (node.value * 2, node.value / 2, node.value - 1, node.value + 1, inverse):
            yield ast.Constant(int(value) if float(value).is_integer() else value)
        for name in scope.names(node.lineno):
            for operator in (ast.Sub(), ast.Add()):
                yield ast.BinOp(node, operator, ast.Name(name, ast.Load()))


def _dimension(node: ast.expr, scope: Scope) -> Iterator[ast.expr]:
    """`-1` is no constant but the negative of one."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
        for dimension in (0, -1, -2, 1):
            yield ast.Constant(dimension)


def a_part_less(node: ast.expr, scope: Scope) -> Iterator[ast.expr]:
    """A term or a factor left out, a sign taken away."""
    if isinstance(node, ast.BinOp):
        yield node.left
        yield ast.UnaryOp(ast.USub(), node.right) if isinstance(node.op, ast.Sub) else node.right
    elif isinstance(node, ast.UnaryOp):
        yield node.operand


def a_name_more(node: ast.expr, scope: Scope) -> Iterator[ast.expr]:
    """Times, over, plus and minus what is at hand."""
    if _is_value(node, scope):
        for name in scope.names(node.lineno):
            for operator in (ast.Mult(), ast.Div(), ast.Sub(), ast.Add()):
                yield ast.BinOp(node, operator, ast.Name(name, ast.Load()))


def a_form_more(node: ast.expr, scope: Scope) -> Iterator[ast.expr]:
    """Times what derivatives are often made of."""
    if _is_value(node, scope):
        for name in scope.names(node.lineno):
            for factor in (f"(1 - {name})", f"{name}**2", f"(1 - {name}**2)", f"{name}.conj()"):
                yield ast.BinOp(node, ast.Mult(), _parsed(factor))


def a_step_more(node: ast.expr, scope: Scope) -> Iterator[ast.expr]:
    """Negated, transposed, conjugate, squared, summed, centred, from one."""
    if not _is_value(node, scope):
        return
    yield ast.UnaryOp(ast.USub(), node)
    for attribute in ("mT", "conj()", "square()", "exp()", "flip(-1)", "unsqueeze(-1)"):
        yield _with(node, attribute)
    for dimension in (-1, 0):
        for reduction in ("sum", "mean"):
            yield _with(node, f"{reduction}({dimension}, keepdim=True)")
        yield ast.BinOp(node, ast.Sub(), _with(node, f"mean({dimension}, keepdim=True)"))
    yield ast.BinOp(ast.Constant(1), ast.Sub(), node)
    yield ast.BinOp(ast.Constant(1), ast.Add(), node)
    for factor in (2, 3):
        yield ast.BinOp(ast.Constant(factor), ast.Mult(), node)
        yield ast.BinOp(node, ast.Div(), ast.Constant(factor))


def _with(node: ast.expr, attribute: str) -> ast.expr:
    return _parsed(f"({ast.unparse(node)}).{attribute}")


def _parsed(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


def _is_value(node: ast.expr, scope: Scope) -> bool:
    """Whether the expression may be a tensor."""
    parent = scope.parents[node]
    if isinstance(parent, ast.Attribute) and parent.attr in ("shape", "dtype", "device", "saved_tensors"):
        return False
    if isinstance(node, ast.Name):
        return isinstance(node.ctx, ast.Load) and node.id in scope.bound
    if isinstance(node, ast.Attribute):
        return node.attr in ("mT", "mH", "T", "data", "real", "imag")
    return isinstance(node, ast.BinOp | ast.UnaryOp | ast.Call)


Rule = Callable[[ast.expr, Scope], Iterator[ast.expr]]
RULES: tuple[Rule, ...] = (
    other_operator, other_name, other_function, other_number, _dimension, a_part_less, a_name_more, a_step_more,
    a_form_more,
)  # fmt: skip
