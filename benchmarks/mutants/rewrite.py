"""Mutations: one expression of a backward written anew.

Each rule takes an expression and proposes others in its place; `mutations` applies every rule to every expression.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch

Proposal = tuple[str, ast.expr]


@dataclass(frozen=True)
class Mutation:
    """`kind` is the class of mistake; `before` and `after` are the expression; `source` is the whole class."""

    kind: str
    before: str
    after: str
    source: str


@dataclass
class Scope:
    """What a backward has at hand, and where an expression stands in it."""

    upstream: list[str]  # the parameters of backward after ctx
    tensors: dict[str, int]  # each local tensor, and the line on which it is first bound
    complex_valued: bool
    parents: dict[ast.AST, ast.AST] = field(default_factory=dict)

    def other(self, name: str, line: int) -> str | None:
        """Another name that is bound before `line`: the next in the alphabet."""
        known = sorted(other for other, first in self.tensors.items() if first < line)
        if name not in known or len(known) < 2:
            return None
        return known[(known.index(name) + 1) % len(known)]


def mutations(function: type[torch.autograd.Function]) -> Iterator[Mutation]:
    """Every mutation of one Function, no source twice."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    (definition,) = tree.body
    assert isinstance(definition, ast.ClassDef)
    definition.decorator_list = []
    methods = {node.name: node for node in definition.body if isinstance(node, ast.FunctionDef)}
    scope = _scope(methods["backward"])
    seen = {ast.unparse(tree)}
    for method, rules in ((methods["backward"], RULES), (methods.get("setup_context", methods["forward"]), [saved])):
        _adopt(method, scope)
        for node in list(ast.walk(method)):
            if not isinstance(node, ast.expr):
                continue
            for rule in rules:
                for kind, new in rule(node, scope):
                    before = ast.unparse(node)
                    with _replaced(scope.parents[node], node, new):
                        source = ast.unparse(tree) + "\n"
                    if source not in seen:
                        seen.add(source)
                        yield Mutation(kind, before, ast.unparse(new), source)


def _scope(backward: ast.FunctionDef) -> Scope:
    upstream = [argument.arg for argument in backward.args.args[1:]]
    bound = dict.fromkeys(upstream, 0)
    for node in ast.walk(backward):
        if isinstance(node, ast.Assign) and ".shape" not in ast.unparse(node.value):
            for name in ast.walk(node.targets[0]):
                if isinstance(name, ast.Name):
                    bound.setdefault(name.id, node.lineno)
    return Scope(upstream, bound, ".conj()" in ast.unparse(backward) or ".mH" in ast.unparse(backward))


def _adopt(method: ast.FunctionDef, scope: Scope) -> None:
    scope.parents.update({child: parent for parent in ast.walk(method) for child in ast.iter_child_nodes(parent)})


class _replaced:  # noqa: N801  (used as a function: `with _replaced(...)`)
    """The tree with `new` in the place of `old`, and as it was afterwards."""

    def __init__(self, parent: ast.AST, old: ast.expr, new: ast.expr) -> None:
        self.parent, self.old, self.new = parent, old, new

    def __enter__(self) -> None:
        self._put(self.old, self.new)

    def __exit__(self, *_: object) -> None:
        self._put(self.new, self.old)

    def _put(self, old: ast.expr, new: ast.expr) -> None:
        for name, value in ast.iter_fields(self.parent):
            if value is old:
                setattr(self.parent, name, new)
            elif isinstance(value, list):
                value[:] = [new if item is old else item for item in value]


# -- the rules ---------------------------------------------------------------------------------------------------


def parsed(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


def _gradients(node: ast.expr, scope: Scope) -> bool:
    """Whether the expression is a gradient that backward returns."""
    parent = scope.parents[node]
    if isinstance(parent, ast.Tuple):
        parent = scope.parents[parent]
    empty = isinstance(node, ast.Constant) and node.value is None
    return isinstance(parent, ast.Return) and not isinstance(node, ast.Tuple) and not empty


def returned(node: ast.expr, scope: Scope) -> Iterator[Proposal]:
    """A gradient negated, scaled, transposed, left out."""
    if _gradients(node, scope):
        text = f"({ast.unparse(node)})"
        yield "sign", parsed(f"-{text}")
        yield "factor", parsed(f"2 * {text}")
        yield "factor", parsed(f"0.5 * {text}")
        yield "factor", parsed(f"{text} / {scope.upstream[0]}.numel()")
        yield "transposition", parsed(f"{text}.mT")
        yield "none", ast.Constant(None)
    if isinstance(node, ast.Tuple) and isinstance(scope.parents[node], ast.Return):
        places = [i for i, item in enumerate(node.elts) if not isinstance(item, ast.Constant)]
        for first, second in itertools.pairwise(places):
            order = list(node.elts)
            order[first], order[second] = order[second], order[first]
            yield "swapped gradients", ast.Tuple(order, ast.Load())


def arithmetic(node: ast.expr, scope: Scope) -> Iterator[Proposal]:
    """Signs, terms, factors and operators."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and not isinstance(node.operand, ast.Constant):
        yield "sign", node.operand
    if not isinstance(node, ast.BinOp):
        return
    left, right = node.left, node.right

    def with_operator(operator: ast.operator) -> ast.expr:
        return ast.BinOp(left, operator, right)

    match node.op:
        case ast.Add():
            yield "sign", with_operator(ast.Sub())
            yield "term", left
            yield "term", right
            yield "operator", with_operator(ast.Mult())
        case ast.Sub():
            yield "sign", with_operator(ast.Add())
            yield "sign", ast.BinOp(right, ast.Sub(), left)
            yield "term", left
            yield "term", ast.UnaryOp(ast.USub(), right)
        case ast.Mult():
            yield "operator", with_operator(ast.Add())
            yield "operator", with_operator(ast.Div())
            yield "dropped factor", left
            yield "dropped factor", right
        case ast.Div():
            yield "operator", with_operator(ast.Mult())
            yield "dropped factor", left
        case ast.Pow():
            yield "operator", ast.BinOp(left, ast.Pow(), ast.BinOp(right, ast.Add(), ast.Constant(1)))
            yield "dropped factor", left
        case ast.MatMult():
            yield "transposition", ast.BinOp(ast.Attribute(left, "mT", ast.Load()), ast.MatMult(), right)
            yield "transposition", ast.BinOp(left, ast.MatMult(), ast.Attribute(right, "mT", ast.Load()))
            yield "transposition", ast.BinOp(right, ast.MatMult(), left)


def constants(node: ast.expr, scope: Scope) -> Iterator[Proposal]:
    """Another factor, another dimension, another keepdim."""
    value = node.value if isinstance(node, ast.Constant) else None
    parent = scope.parents[node]
    if isinstance(value, bool):
        yield "keepdim", ast.Constant(not value)
    elif isinstance(value, int | float) and isinstance(parent, ast.BinOp):
        yield "factor", ast.Constant(2 * value)
        yield "factor", ast.Constant(value + 1)
    if isinstance(node, ast.UnaryOp) and isinstance(node.operand, ast.Constant):
        value, negative = node.operand.value, True
    else:
        negative = False
    whole = type(value) is int and not isinstance(parent, ast.UnaryOp)
    if whole and isinstance(parent, ast.Call) and node in parent.args and _method(parent) in OF_DIMENSIONS:
        yield "dim", ast.Constant(0) if negative else parsed("-1")
        if negative and value == 1:
            yield "dim", parsed("-2")
    if whole and isinstance(parent, ast.Subscript) and ".shape" in ast.unparse(parent.value):
        yield "dim", ast.Constant(0) if negative else parsed("-1")


OF_DIMENSIONS = {
    "sum", "mean", "flip", "cumsum", "softmax", "log_softmax", "unsqueeze", "gather", "scatter", "scatter_add",
    "index_add", "std", "var", "transpose",
}  # fmt: skip
FUNCTIONS = {
    "exp": ("log", "expm1"), "log": ("exp",), "sin": ("cos",), "cos": ("sin",), "sigmoid": ("tanh",),
    "tanh": ("sigmoid",), "sqrt": ("square",), "rsqrt": ("sqrt",), "square": ("abs",), "erf": ("tanh",),
    "softmax": ("log_softmax",), "log_softmax": ("softmax",), "cumsum": ("cumprod",), "sum": ("mean",),
    "mean": ("sum",), "std": ("var",), "scatter_add": ("scatter",), "index_add": ("index_copy",),
}  # fmt: skip


def _method(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else ""


def calls(node: ast.expr, scope: Scope) -> Iterator[Proposal]:
    """A sum left out, another function, the branches of a `where` exchanged, transpositions and conjugates dropped."""
    if isinstance(node, ast.Attribute) and node.attr in ("mT", "mH"):
        yield "transposition", node.value
        if node.attr == "mH":
            yield "conjugate", ast.Attribute(node.value, "mT", ast.Load())
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return
    method, receiver = _method(node), node.func.value
    of_torch = isinstance(receiver, ast.Name) and receiver.id in ("torch", "functional")
    if method in ("sum", "mean", "sum_to_size", "expand", "unsqueeze"):
        yield "sum" if method in ("sum", "mean", "sum_to_size") else "broadcast", receiver
    elif method in ("transpose", "flip", "conj"):
        yield {"transpose": "transposition", "flip": "index", "conj": "conjugate"}[method], receiver
    for name in FUNCTIONS.get(method, ()):
        yield "operator", ast.Call(ast.Attribute(receiver, name, ast.Load()), node.args, node.keywords)
    if method == "where" and of_torch:
        yield "branches", ast.Call(node.func, [node.args[0], node.args[2], node.args[1]], [])
        yield "branches", node.args[1]
    if method == "clamp":
        yield "branches", receiver
    if method == "einsum" and isinstance(node.args[0], ast.Constant):
        yield from _letters(node)


def _letters(node: ast.Call) -> Iterator[Proposal]:
    """Two letters of one operand of an einsum exchanged."""
    operands, _, result = node.args[0].value.partition("->")  # type: ignore[attr-defined]
    terms = [*operands.split(","), result]
    for place, term in enumerate(terms):
        if len(term) > 1:
            swapped = [*terms[:place], term[:-2] + term[-1] + term[-2], *terms[place + 1 :]]
            text = f"{','.join(swapped[:-1])}->{swapped[-1]}"
            yield "transposition", ast.Call(node.func, [ast.Constant(text), *node.args[1:]], [])


def comparisons(node: ast.expr, scope: Scope) -> Iterator[Proposal]:
    if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Gt):
        yield "operator", ast.Compare(node.left, [ast.Lt()], node.comparators)


def names(node: ast.expr, scope: Scope) -> Iterator[Proposal]:
    """Another name, a detached one, part of the upstream."""
    parent = scope.parents[node]
    if isinstance(node, ast.Tuple) and isinstance(node.ctx, ast.Store) and len(node.elts) > 1:
        yield "names", ast.Tuple([node.elts[1], node.elts[0], *node.elts[2:]], ast.Store())
    if not isinstance(node, ast.Name) or not isinstance(node.ctx, ast.Load) or node.id not in scope.tensors:
        return
    if isinstance(parent, ast.Attribute) and parent.attr in ("shape", "numel", "dtype", "new_zeros"):
        return
    other = scope.other(node.id, node.lineno)
    if other is not None:
        yield "names", ast.Name(other, ast.Load())
    yield "detach", parsed(f"{node.id}.{'data' if node.lineno % 2 else 'detach()'}")
    if node.id in scope.upstream:
        yield "upstream", parsed(f"torch.ones_like({node.id})")
        yield "upstream", parsed(f"{node.id}.reshape(-1)[0]")
        yield "upstream", parsed(f"{node.id}.mean()")
    elif scope.complex_valued:
        yield "conjugate", parsed(f"{node.id}.conj()")


def saved(node: ast.expr, scope: Scope) -> Iterator[Proposal]:
    """An input that is saved replaced by the output, or the other way round."""
    if not isinstance(node, ast.Call) or _method(node) != "save_for_backward":
        return
    method: ast.AST = node
    while not isinstance(method, ast.FunctionDef):
        method = scope.parents[method]
    arguments = [argument.arg for argument in method.args.args]
    if method.name == "setup_context":
        at_hand = ["inputs[0]", "output"]
    else:
        assigned = [n.id for n in ast.walk(method) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
        at_hand = [*arguments[1:2], *(["out"] if "out" in assigned else [])]
    for place, argument in enumerate(node.args):
        if isinstance(argument, ast.Starred):
            continue
        for name in at_hand:
            if name != ast.unparse(argument):
                changed = [*node.args[:place], parsed(name), *node.args[place + 1 :]]
                yield "saved", ast.Call(node.func, changed, [])


Rule = Callable[[ast.expr, Scope], Iterator[Proposal]]
RULES: list[Rule] = [returned, arithmetic, constants, calls, comparisons, names]
