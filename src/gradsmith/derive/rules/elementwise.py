"""Arithmetic and elementwise functions."""

from __future__ import annotations

import math

import torch

from gradsmith.derive.rules.shaping import fit
from gradsmith.derive.rules.table import constant, elementwise

# arithmetic
elementwise(
    "add",
    "input, other",
    input=lambda grad, input: fit(grad, input),
    other=lambda grad, other: fit(grad, other),
)
elementwise(
    "sub",
    "input, other",
    input=lambda grad, input: fit(grad, input),
    other=lambda grad, other: fit(-grad, other),
)
elementwise(
    "mul",
    "input, other",
    input=lambda grad, input, other: fit(grad * other, input),
    other=lambda grad, input, other: fit(grad * input, other),
)
elementwise(
    "div",
    "input, other",
    input=lambda grad, input, other: fit(grad / other, input),
    other=lambda grad, out, other: fit(-grad * out / other, other),
)
elementwise("remainder", "input, other", input=lambda grad, input: fit(grad, input))
elementwise("neg", "input", input=lambda grad: -grad)
elementwise("abs", "input", input=lambda grad, input: grad * torch.sign(input))
elementwise(
    "pow",
    "input, exponent",
    input=lambda grad, input, exponent: fit(grad * _power_slope(input, exponent), input),
    exponent=lambda grad, out, input, exponent: fit(grad * _exponent_slope(out, input), exponent),
)

# exponentials and logarithms
elementwise("exp", "input", input=lambda grad, out: grad * out)
elementwise("exp2", "input", input=lambda grad, out: grad * out * math.log(2))
elementwise("expm1", "input", input=lambda grad, out: grad * (out + 1))
elementwise("log", "input", input=lambda grad, input: grad / input)
elementwise("log2", "input", input=lambda grad, input: grad / (input * math.log(2)))
elementwise("log10", "input", input=lambda grad, input: grad / (input * math.log(10)))
elementwise("log1p", "input", input=lambda grad, input: grad / (1 + input))
elementwise("sqrt", "input", input=lambda grad, out: grad / (2 * out))
elementwise("rsqrt", "input", input=lambda grad, out: -0.5 * grad * out**3)

# trigonometry
elementwise("sin", "input", input=lambda grad, input: grad * torch.cos(input))
elementwise("cos", "input", input=lambda grad, input: -grad * torch.sin(input))
elementwise("tan", "input", input=lambda grad, out: grad * (1 + out**2))
elementwise("asin", "input", input=lambda grad, input: grad * torch.rsqrt(1 - input**2))
elementwise("acos", "input", input=lambda grad, input: -grad * torch.rsqrt(1 - input**2))
elementwise("atan", "input", input=lambda grad, input: grad / (1 + input**2))
elementwise("sinh", "input", input=lambda grad, input: grad * torch.cosh(input))
elementwise("cosh", "input", input=lambda grad, input: grad * torch.sinh(input))
elementwise("asinh", "input", input=lambda grad, input: grad * torch.rsqrt(1 + input**2))
elementwise("atanh", "input", input=lambda grad, input: grad / (1 - input**2))
elementwise("erf", "input", input=lambda grad, input: grad * (2 / math.sqrt(math.pi)) * torch.exp(-(input**2)))

# activations
elementwise("tanh", "input", input=lambda grad, out: grad * (1 - out**2))
elementwise("sigmoid", "input", input=lambda grad, out: grad * out * (1 - out))
elementwise("logsigmoid", "input", input=lambda grad, input: grad * torch.sigmoid(-input))
elementwise("relu", "input", input=lambda grad, out: torch.where(out > 0, grad, 0))
elementwise(
    "leaky_relu",
    "input, negative_slope=0.01",
    input=lambda grad, input, negative_slope: torch.where(input > 0, grad, grad * negative_slope),
)
elementwise(
    "elu",
    "input, alpha=1.0",
    input=lambda grad, input, alpha: torch.where(input > 0, grad, grad * alpha * torch.exp(input)),
)
# Beyond the threshold softplus is the identity; its slope there is 1, which the sigmoid is to 2e-9 at torch's 20.
elementwise(
    "softplus",
    "input, beta=1, threshold=20",
    input=lambda grad, input, beta: grad * torch.sigmoid(input * beta),
)
elementwise("silu", "input", input=lambda grad, input: grad * _silu_slope(input))
elementwise(
    "gelu",
    "input, approximate='none'",
    input=lambda grad, input, approximate: grad * _gelu_slope(input, approximate),
)

# choices
elementwise(
    "where",
    "condition, input, other",
    input=lambda grad, condition, input: fit(torch.where(condition, grad, 0), input),
    other=lambda grad, condition, other: fit(torch.where(condition, 0, grad), other),
)
elementwise(
    "masked_fill",
    "input, mask, value",
    input=lambda grad, mask, input: fit(torch.where(mask, 0, grad), input),
    value=lambda grad, mask: torch.where(mask, grad, 0).sum(),
)
# Where both are equal each gets half, as torch has it.
elementwise(
    "maximum",
    "input, other",
    input=lambda grad, input, other: fit(grad * (1 + torch.sign(input - other)) / 2, input),
    other=lambda grad, input, other: fit(grad * (1 - torch.sign(input - other)) / 2, other),
)
elementwise(
    "minimum",
    "input, other",
    input=lambda grad, input, other: fit(grad * (1 - torch.sign(input - other)) / 2, input),
    other=lambda grad, input, other: fit(grad * (1 + torch.sign(input - other)) / 2, other),
)
elementwise(
    "clamp",
    "input, min=None, max=None",
    input=lambda grad, input, min, max: fit(torch.where(_inside(input, min, max), grad, 0), input),
    min=lambda grad, input, min: fit(torch.where(input < min, grad, 0), min),
    max=lambda grad, input, max: fit(torch.where(input > max, grad, 0), max),
)

# another dtype or place
elementwise("to", "input, *target", input=lambda grad, input: grad.to(input.dtype))
elementwise("type_as", "input, other", input=lambda grad, input: grad.to(input.dtype), other=None)
for _name in ("float", "double", "half", "bfloat16"):
    elementwise(_name, "input", input=lambda grad, input: grad.to(input.dtype))
elementwise("clone", "input", input=lambda grad: grad)
elementwise("contiguous", "input", input=lambda grad: grad)

# derivative zero
constant("input", "sign", "sgn", "floor", "ceil", "round", "trunc", "detach", kind="elementwise")
constant("input", "isnan", "isinf", "isfinite", kind="elementwise")
constant("input", "long", "int", "bool", "logical_not", "bitwise_not", kind="elementwise")
constant("input, other", "eq", "ne", "lt", "le", "gt", "ge", kind="elementwise")
constant("input, other", "logical_and", "logical_or", "logical_xor", kind="elementwise")
constant("input, other", "bitwise_and", "bitwise_or", "bitwise_xor", "floor_divide", "heaviside", kind="elementwise")


def _power_slope(input: torch.Tensor, exponent: torch.Tensor | float) -> torch.Tensor:
    slope: torch.Tensor = exponent * input ** (exponent - 1)
    return torch.where(exponent == 0, 0, slope) if isinstance(exponent, torch.Tensor) else slope


def _exponent_slope(out: torch.Tensor, input: torch.Tensor | float) -> torch.Tensor:
    """out * log(input), and 0 where a power of 0 is 0."""
    if isinstance(input, torch.Tensor):
        return torch.where(out == 0, 0, out * torch.log(input))
    return out * math.log(input)


def _silu_slope(input: torch.Tensor) -> torch.Tensor:
    sigmoid = torch.sigmoid(input)
    return sigmoid * (1 + input * (1 - sigmoid))


def _gelu_slope(input: torch.Tensor, approximate: str) -> torch.Tensor:
    """The derivative of x Φ(x), or of x (1 + tanh u)/2 with u = √(2/π) (x + 0.044715 x³)."""
    if approximate == "none":
        below = 0.5 * (1 + torch.erf(input / math.sqrt(2)))
        density = torch.exp(-0.5 * input**2) / math.sqrt(2 * math.pi)
        return below + input * density
    scale = math.sqrt(2 / math.pi)
    tanh = torch.tanh(scale * (input + 0.044715 * input**3))
    slope = scale * (1 + 3 * 0.044715 * input**2)
    return 0.5 * (1 + tanh) + 0.5 * input * (1 - tanh**2) * slope


def _inside(input: torch.Tensor, min: object, max: object) -> torch.Tensor:
    if max is None:
        return input >= min  # type: ignore[operator]  # a tensor or a number
    if min is None:
        return input <= max  # type: ignore[operator]
    return (input >= min) & (input <= max)  # type: ignore[operator]
