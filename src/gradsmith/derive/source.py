"""The printed module: imports, the forward, and a formula per argument."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gradsmith.derive.block import WIDTH, Block
from gradsmith.derive.calls import rule_of
from gradsmith.derive.expression import Scope, Text, expression, value_text
from gradsmith.derive.graph import Graph, Node
from gradsmith.derive.plan import Formula

_NOWHERE = Scope(lambda node: Text(""), lambda node, kind: "", lambda node: False)  # for values without nodes


@dataclass(frozen=True)
class Function:
    """The author's function, as it was traced."""

    name: str
    signature: inspect.Signature
    doc: str | None
    fixed: dict[str, Any]  # arguments for whose values alone the source holds


def source(
    function: Function,
    graph: Graph,
    outputs: dict[str, Node],
    formulas: Sequence[Formula],
    zero: Sequence[str],
    residuals: dict[Node, str],
) -> str:
    """The whole text. Gives `residuals`, and the leaves of the formulas that are residuals, their names."""
    forward = _Forward(function, graph, outputs, residuals)
    body = forward.lines()
    for formula in formulas:
        formula.leaves.update({node: residuals[node] for node in formula.kept})
    arguments = list(function.signature.parameters)
    written = [_formula(function.name, formula, arguments) for formula in formulas]
    named = tuple(outputs) if tuple(outputs) != ("out",) else None
    options = [] if named is None else [f"    outputs={named!r},".replace("'", '"')]
    options += [text for text in written if text.startswith("    ")]
    options += [f"    {name}=None,  # its gradient is zero" for name in zero]
    decorator = _decorator(options)
    blocks = ["\n".join([*decorator, *body])]
    blocks += [text for text in written if not text.startswith("    ")]
    notes = _notes(graph)
    text = "\n\n\n".join(blocks) + "\n"
    return "\n".join([*_imports(text), *notes, "", "", text])


def _decorator(options: Sequence[str]) -> list[str]:
    if not options:
        return ["@gs.op"]
    one = f"@gs.op({options[0].strip().removesuffix(',')})"
    return [one] if len(options) == 1 and len(one) <= WIDTH and "#" not in one else ["@gs.op(", *options, ")"]


def _imports(text: str) -> list[str]:
    lines = ["import math", ""] if "math." in text else []
    lines += ["import torch"] if "torch." in text else []
    lines += ["import torch.nn.functional as F"] if "F." in text.replace("torch.nn.functional", "") else []
    return [*lines, "", "import gradsmith as gs"] if lines else ["import gradsmith as gs"]


def _notes(graph: Graph) -> list[str]:
    """Comments on what holds for the example and not for every call."""
    scope = Scope(
        lambda node: _origin(node, scope),
        lambda node, kind: f"{_origin(node, scope).source}.{kind}",
        lambda node: False,
    )
    facts = [text.format(*[value_text(entry, scope).source for entry in about]) for text, about in graph.notes]
    return ["", "# Derived for arguments where, as in the example:", *[f"#   {f}" for f in facts]] if facts else []


def _origin(node: Node, scope: Scope) -> Text:
    """What a number was computed from, as far back as something with a name."""
    named = node.name is not None and (node.is_tensor or node.op == "argument")
    return Text(node.name or "") if named else expression(node, scope)


class _Forward:
    """The author's function again, written from the graph."""

    def __init__(self, function: Function, graph: Graph, outputs: dict[str, Node], residuals: dict[Node, str]) -> None:
        self.function, self.outputs, self.residuals = function, outputs, residuals
        arguments = {node: node.args["name"] for node in graph.nodes if node.op == "argument"}
        taken = [*function.signature.parameters, function.name, *outputs]
        self._name_residuals({*taken, "grad", "out"})
        self.block = Block(arguments, {}, taken, keep_names=True, named=residuals)

    def _name_residuals(self, taken: set[str]) -> None:
        block = Block({}, {}, taken)
        for node in sorted(self.residuals, key=lambda node: node.index):
            self.residuals[node] = block._new_name(node)

    def lines(self) -> list[str]:
        indent = "    "
        kept_nodes = sorted(self.residuals, key=lambda node: node.index)
        roots = [*self.outputs.values(), *kept_nodes]
        texts = self.block.write(roots, indent, "return ")
        count = len(self.outputs)
        result = texts[0] if count == 1 else f"({', '.join(texts[:count])})"
        values = zip(kept_nodes, texts[count:], strict=True)
        kept = [f"{self.residuals[node]}={_constant(node, text)}" for node, text in values]
        returned = _keep(result, kept) if kept else [f"    return {result}"]
        header = f"def {self.function.name}({', '.join(_parameters(self.function.signature))}):"
        return [*wrapped(header), *self._doc(), *self._guards(), *self.block.lines, *returned]

    def _doc(self) -> list[str]:
        if not self.function.doc:
            return []
        first, *rest = inspect.cleandoc(self.function.doc).replace('"""', "'''").splitlines()
        if not rest:
            return [f'    """{first}"""']
        return [f'    """{first}', *[f"    {line}".rstrip() for line in rest], '    """']

    def _guards(self) -> list[str]:
        """The source was derived for these values of the arguments, so it refuses others."""
        lines = []
        for name, value in self.function.fixed.items():
            text = value_text(value, _NOWHERE).source
            test = f"{name} is not {text}" if value is None or isinstance(value, bool) else f"{name} != {text}"
            lines += [f"    if {test}:", f'        raise ValueError(f"derived for {name}={value}, got {{{name}!r}}")']
        return lines


def _keep(result: str, kept: Sequence[str]) -> list[str]:
    """The statement that returns a result and hands over residuals, an argument a line where one is too long."""
    whole = f"    return gs.keep({', '.join([result, *kept])})"
    if len(whole) <= WIDTH:
        return [whole]
    return ["    return gs.keep(", *[f"        {argument}," for argument in (result, *kept)], "    )"]


def _constant(node: Node, text: str) -> str:
    """Random values depend on no argument, whatever they were shaped after."""
    rule = rule_of(node.op)
    return f"gs.constant({text})" if rule is not None and rule.random else text


def _parameters(signature: inspect.Signature) -> list[str]:
    """The author's parameters with their defaults."""
    written: list[str] = []
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in written:
            written.append("*")
        default = "" if parameter.default is parameter.empty else f"={value_text(parameter.default, _NOWHERE).source}"
        written.append(f"{parameter.name}{default}")
    return written


def _formula(op: str, formula: Formula, arguments: Sequence[str]) -> str:
    """A lambda where it is one expression that fits a line, else a function."""
    parameters = formula.parameters(arguments)
    block = Block(formula.leaves, formula.holdings, [*parameters, op])
    head = f"{formula.target}=lambda {', '.join(parameters)}: "
    text = block.write([formula.root], "    ", head)[0]
    if not block.lines and len(f"    {head}{text},") <= WIDTH:
        return f"    {head}{text},"
    block = Block(formula.leaves, formula.holdings, [*parameters, op])
    text = block.write([formula.root], "    ", "return ")[0]
    header = wrapped(f"def _({', '.join(parameters)}):")
    return "\n".join([f'@{op}.vjp("{formula.target}")', *header, *block.lines, f"    return {text}"])


def wrapped(header: str) -> list[str]:
    """A `def` line, its parameters one by one where it is too long."""
    if len(header) <= WIDTH:
        return [header]
    name, _, rest = header.partition("(")
    return [f"{name}(", *[f"    {parameter}," for parameter in rest.removesuffix("):").split(", ")], "):"]
