"""`derive`: from a plain forward to the source of an op with a formula per argument."""

from __future__ import annotations

import inspect
import linecache
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gradsmith.define.op import Op
from gradsmith.derive.block import RESERVED
from gradsmith.derive.errors import DeriveError
from gradsmith.derive.fitting import fitted
from gradsmith.derive.graph import Node
from gradsmith.derive.plan import Planner
from gradsmith.derive.reverse import gradients
from gradsmith.derive.scalars import TRACKED, history_kept
from gradsmith.derive.shapes import Shapes
from gradsmith.derive.simplify import simplify
from gradsmith.derive.source import Function, source
from gradsmith.derive.trace import Tracer
from gradsmith.derive.verify import verify


@dataclass(frozen=True)
class Derived:
    """The source of an op, and the op that it makes when it is run."""

    source: str
    op: Op[..., Any]

    def __str__(self) -> str:
        return self.source


def derive(
    forward: Callable[..., Any],
    *example_inputs: Any,
    differentiable: Collection[str] | None = None,
    name: str | None = None,
) -> Derived:
    """Write the source of an op for a plain forward: itself again, and a formula for the gradient of each argument.

    The forward is run once on the example and recorded as the torch operations that it calls, differentiated by
    rules, simplified, and printed with the author's own names, ready to be edited. Sizes stay sizes
    (`x.shape[-1]`), and numbers that are arguments stay arguments. What is decided from the example (a branch on a
    size, the pattern of broadcasting, the number of dimensions) is as in the example; branches stand in a comment.

    Args:
        forward: a function of tensors and plain values that returns a tensor or a tuple of tensors.
        example_inputs: arguments to call it with, by position; real floating tensors of any shape. Defaults stand for
            the others.
        differentiable: the names of the arguments that get a formula; by default all floating-point tensors.
        name: of the op, where the forward's own name will not do.

    Returns:
        A `Derived`: `.source` (also `str`), and `.op`, the op of the executed source. Its values and gradients were
        compared with autograd's for the example.

    Raises:
        DeriveError: the forward calls something without a rule, turns tensors into plain values, writes in place,
            uses tensors that are no arguments, or takes complex tensors or containers of tensors.

    >>> import torch, gradsmith as gs
    >>> def softmax(x):
    ...     return torch.softmax(x, -1)
    >>> print(gs.derive(softmax, torch.randn(2, 3)).op.saves("x"))
    ('out',)
    """
    function, arguments = _read(forward, example_inputs, name)
    tracer = Tracer(simplify)
    leaves = {key: _leaf(tracer, function, key, value) for key, value in arguments.items()}
    outputs = _run(tracer, forward, function, leaves)
    tensors = {key: tracer.node(value) for key, value in leaves.items() if isinstance(value, Tensor)}
    wanted = _wanted(function.name, tensors, differentiable)
    upstream = [_upstream(tracer, key, node, len(outputs)) for key, node in outputs.items()]
    found = gradients(tracer, list(outputs.values()), upstream, [tensors[key] for key in wanted])
    shapes = Shapes(tracer.graph, outputs)
    roots = {
        key: fitted(tracer, shapes, outputs.values(), tensors[key], node)
        for key in wanted
        if (node := found[tensors[key]]) is not None
    }
    planner = Planner(tracer.graph, outputs, shapes, list(roots.values()))
    formulas = [planner.formula(key, node) for key, node in roots.items()]
    zero = [key for key in wanted if key not in roots]
    fixed = {*tracer.graph.fixed, *_unused(tracer)}
    function.fixed.update({key: value for key, value in arguments.items() if key in fixed})
    text = source(function, tracer.graph, outputs, formulas, zero, planner.residuals)
    op = _execute(text, function.name)
    verify(function.name, forward, op, arguments, wanted, text)
    return Derived(text, op)


def _read(forward: Callable[..., Any], example: Sequence[Any], name: str | None) -> tuple[Function, dict[str, Any]]:
    """The function and one value per argument."""
    label = name or str(getattr(forward, "__name__", type(forward).__name__))
    label = "f" if label == "<lambda>" else label
    if not label.isidentifier():
        raise DeriveError(f"derive: {label!r} is no name for a function; give another with name=")
    try:
        signature = inspect.signature(forward)
    except (TypeError, ValueError):
        raise DeriveError(f"derive: the arguments of {label} cannot be read; wrap it in a function of yours") from None
    for parameter in signature.parameters.values():
        if parameter.name in RESERVED:
            raise DeriveError(f"derive: the argument `{parameter.name}` of {label} has the name of a module; rename it")
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise DeriveError(f"derive: {label} takes *{parameter.name}; name its arguments one by one")
        if parameter.default is not parameter.empty and not _is_printable(parameter.default):
            raise DeriveError(f"derive: the default of `{parameter.name}` of {label} cannot be printed; leave it out")
    try:
        bound = signature.bind(*example)
    except TypeError as error:
        raise DeriveError(f"derive: {label}{signature} does not take the example inputs: {error}") from None
    bound.apply_defaults()
    fixed = {key: value for key, value in bound.arguments.items() if not _varies(label, key, value)}
    return Function(label, signature, inspect.getdoc(forward), fixed), dict(bound.arguments)


def _varies(function: str, name: str, value: Any) -> bool:
    """Whether an argument may have another value in other calls of the printed source."""
    if isinstance(value, Tensor):
        if value.is_complex():
            raise DeriveError(f"derive: `{name}` of {function} is complex; the rules are for real tensors")
        return True
    if isinstance(value, (list, tuple, dict)) and _holds_tensors(value):
        raise DeriveError(f"derive: `{name}` of {function} is a {type(value).__name__} of tensors; give each its name")
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return True
    if not _is_printable(value):
        raise DeriveError(
            f"derive: `{name}` of {function} is a {type(value).__name__}, which cannot be printed; wrap {function} "
            f"in a function without this argument"
        )
    return False


def _is_printable(value: Any) -> bool:
    """Whether the source can say that it holds for this value alone."""
    if isinstance(value, (tuple, list)):
        return all(map(_is_printable, value))
    return value is None or isinstance(value, (bool, int, float, str, torch.dtype, torch.device))


def _holds_tensors(value: Any) -> bool:
    entries = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return any(isinstance(entry, Tensor) or _holds_tensors(entry) for entry in entries)


def _leaf(tracer: Tracer, function: Function, name: str, value: Any) -> Any:
    return value if name in function.fixed else tracer.leaf("argument", name, value)


def _run(tracer: Tracer, forward: Callable[..., Any], function: Function, leaves: dict[str, Any]) -> dict[str, Node]:
    """Trace the forward: its outputs by name."""
    bound = function.signature.bind_partial()
    bound.arguments.update(leaves)
    with history_kept(getattr(forward, "__globals__", {})), torch.enable_grad(), tracer, tracer.watching(forward):
        result = forward(*bound.args, **bound.kwargs)
    values = result if isinstance(result, tuple) else (result,)
    if not values or not all(isinstance(value, Tensor) for value in values):
        kind = "a number" if isinstance(result, TRACKED) else f"a {type(result).__name__}"
        raise DeriveError(f"derive: {function.name} returned {kind}; it must return a tensor or a tuple of tensors")
    nodes = [tracer.node(value) for value in values]
    if len(nodes) == 1:
        return {"out": nodes[0]}
    names = [f"out{index}" if node.name is None else node.name for index, node in enumerate(nodes)]
    if len(set(names)) < len(names) or set(names) & set(leaves):
        names = [f"out{index}" for index in range(len(nodes))]
    return dict(zip(names, nodes, strict=True))


def _wanted(function: str, tensors: dict[str, Node], differentiable: Collection[str] | None) -> list[str]:
    floating = [name for name, node in tensors.items() if node.value.is_floating_point()]
    if differentiable is None:
        return floating
    for name in differentiable:
        if name not in floating:
            raise DeriveError(
                f"derive: `{name}` in differentiable= is no floating-point tensor argument of {function}; those are "
                f"{', '.join(floating) or 'none'}"
            )
    return [name for name in floating if name in set(differentiable)]


def _unused(tracer: Tracer) -> list[str]:
    """Numbers that nothing recorded was computed from: if the forward used them, then where that cannot be seen."""
    used = {input for node in tracer.graph.nodes for input in node.inputs}
    leaves = [node for node in tracer.graph.nodes if node.op == "argument"]
    return [node.args["name"] for node in leaves if not node.is_tensor and node not in used]


def _upstream(tracer: Tracer, name: str, output: Node, count: int) -> Tensor | None:
    if not output.value.is_floating_point():
        return None
    grad: Tensor = tracer.leaf("upstream", name, torch.ones_like(output.value))
    tracer.node(grad).name = "grad" if count == 1 else f"grad_{name}"
    return grad


def _execute(text: str, name: str) -> Op[..., Any]:
    """Run printed source as a module of its own; its lines are there for tracebacks and inspect.getsource."""
    file = f"<derived {name}>"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    namespace: dict[str, Any] = {"__name__": f"derived_{name}"}
    exec(compile(text, file, "exec"), namespace)
    op: Op[..., Any] = namespace[name]
    return op
