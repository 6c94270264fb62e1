"""Matrix products."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gradsmith.derive.errors import Unsupported
from gradsmith.derive.rules.shaping import fit
from gradsmith.derive.rules.table import rule

rule(
    "matmul",
    "input, other",
    input=lambda grad, input, other: _left(grad, input, other),
    other=lambda grad, input, other: _right(grad, input, other),
)
rule(
    "linear",
    "input, weight, bias=None",
    input=lambda grad, weight: grad @ weight,
    weight=lambda grad, input: _rows(grad).mT @ _rows(input),
    bias=lambda grad, bias: fit(grad, bias),
)
rule("outer", "input, vec2", input=lambda grad, vec2: grad @ vec2, vec2=lambda grad, input: grad.mT @ input)
rule(
    "einsum",
    "equation, *operands",
    operands=lambda grad, equation, operands: _einsum(grad, equation, operands),
)


def _rows(tensor: Tensor) -> Tensor:
    """A matrix with the vectors along the last dimension as its rows."""
    if tensor.dim() == 1:
        return tensor.unsqueeze(0)
    return tensor if tensor.dim() == 2 else tensor.flatten(0, -2)


def _left(grad: Tensor, input: Tensor, other: Tensor) -> Tensor:
    if other.dim() == 1:
        return grad * other if input.dim() == 1 else grad.unsqueeze(-1) * other
    if input.dim() == 1:
        return other @ grad if other.dim() == 2 else fit((other @ grad.unsqueeze(-1)).squeeze(-1), input)
    if input.dim() == 2 and other.dim() > 2:
        return fit(grad @ other.mT, input)
    return fit(grad @ other.mT, input)


def _right(grad: Tensor, input: Tensor, other: Tensor) -> Tensor:
    if other.dim() == 1:
        return grad * input if input.dim() == 1 else _rows(input).mT @ grad.flatten()
    if input.dim() == 1:
        return input.unsqueeze(-1) * grad.unsqueeze(-2)
    if other.dim() == 2:  # one product of two matrices instead of a batch of products that are summed
        return _rows(input).mT @ _rows(grad)
    return fit(input.mT @ grad, other)


def _einsum(grad: Tensor, equation: str, operands: Sequence[Tensor]) -> list[Tensor]:
    """The gradient of each operand: the same sum with the operand and the output exchanged."""
    if "." in equation or "->" not in equation:
        raise Unsupported("with an ellipsis or without an arrow")
    left, output = equation.replace(" ", "").split("->")
    terms = left.split(",")
    gradients = []
    for at, term in enumerate(terms):
        if len(set(term)) < len(term):
            raise Unsupported(f"for {term!r} in {equation!r}: an index that stands twice in one operand")
        others = [other for position, other in enumerate(terms) if position != at]
        rest = [operand for position, operand in enumerate(operands) if position != at]
        reached = "".join(index for index in term if index in output + "".join(others))
        gradient = torch.einsum(f"{','.join([output, *others])}->{reached}", grad, *rest)
        for position, index in enumerate(term):
            if index not in reached:
                gradient = gradient.unsqueeze(position)
        gradients.append(gradient if reached == term else gradient.expand(operands[at].shape))
    return gradients
