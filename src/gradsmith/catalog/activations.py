"""Activations, and the gated ones of transformers' feed-forward layers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from gradsmith.catalog.parallel import parallel_for
from gradsmith.catalog.recompute import recomputable
from gradsmith.catalog.rows import accumulation, as_rows, pieces, watched
from gradsmith.define.keep import keep
from gradsmith.define.op import op
from gradsmith.native import kernels

_silu_backward: Any = torch.ops.aten.silu_backward.default
_gelu_backward: Any = torch.ops.aten.gelu_backward.default
_silu_backward_out: Any = torch.ops.aten.silu_backward.grad_input
_gelu_backward_out: Any = torch.ops.aten.gelu_backward.grad_input
_SILU, _GELU, _GELU_TANH = 0, 1, 2  # as the kernels number them
_MEMORY = ("save", "recompute")


@op(input=lambda grad, input: _slope(_SILU, grad, input))
def silu(input: Tensor) -> Tensor:
    """x σ(x), σ the logistic function: as `torch.nn.functional.silu`, also called swish.

    From σ' = σ (1 - σ) follows ∂L/∂x = g σ(x) (1 + x (1 - σ(x))) for the upstream gradient g.

    Args:
        input: any shape, a floating-point dtype.

    Saves: input. Source: Elfwing, Uchibe and Doya, https://arxiv.org/abs/1702.03118.

    >>> silu(torch.tensor([0.0, 1.0]))
    tensor([0.0000, 0.7311])
    """
    return recomputable(functional.silu(input), functional.silu, input)


@op(input=lambda grad, input, approximate: _slope(_kind(approximate), grad, input))
def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """x Φ(x), Φ the distribution function of the standard normal: as `torch.nn.functional.gelu`.

    From Φ' = φ, the density, follows ∂L/∂x = g (Φ(x) + x φ(x)) for the upstream gradient g. With approximate="tanh",
    Φ(x) ≈ (1 + t)/2 with t = tanh(√(2/π) (x + 0.044715 x³)), and its derivative is taken exactly.

    Args:
        input: any shape, a floating-point dtype.
        approximate: "none" or "tanh".

    Saves: input. Source: Hendrycks and Gimpel, https://arxiv.org/abs/1606.08415.

    Raises RuntimeError for another `approximate`, as torch does.

    >>> gelu(torch.tensor([0.0, 1.0]))
    tensor([0.0000, 0.8413])
    """
    return recomputable(functional.gelu(input, approximate=approximate), _activate, _kind(approximate), input)


@op
def swiglu(gate: Tensor, up: Tensor, *, memory: str = "save") -> Tensor:
    """silu(gate) up: the gated activation of LLaMA's feed-forward layers.

    For the upstream gradient g,

        ∂L/∂gate = g up silu'(gate)        ∂L/∂up = g silu(gate)

    Args:
        gate, up: any shape, the same for both; a floating-point dtype.
        memory: "save" keeps silu(gate) for the backward, as torch does, unless the native kernel serves, which
            computes it again at no cost. With "recompute", and under `recompute_saves`, it is never kept: a third less,
            for some time without the kernel.

    Saves: gate and up, and silu(gate) where `memory` has it. Source: Shazeer, https://arxiv.org/abs/2002.05202.

    Raises RuntimeError where shapes or dtypes differ, and ValueError for another `memory`.

    >>> swiglu(torch.tensor([1.0]), torch.tensor([2.0]))
    tensor([1.4621])
    """
    _check_gated("swiglu", gate, up)
    out, active = _gated_and_kept("swiglu", _SILU, gate, up, memory)
    return keep(out, active=active)  # type: ignore[return-value]  # an op unpacks it


@swiglu.vjp("gate", "up")
def _(grad: Tensor, gate: Tensor, up: Tensor, active: Tensor | None) -> tuple[Tensor, Tensor]:
    return _gated_gradients(_SILU, grad, gate, up, active)


@op
def geglu(gate: Tensor, up: Tensor, approximate: str = "none", *, memory: str = "save") -> Tensor:
    """gelu(gate) up: the gated activation of T5's and Gemma's feed-forward layers.

    For the upstream gradient g,

        ∂L/∂gate = g up gelu'(gate)        ∂L/∂up = g gelu(gate)

    Args:
        gate, up: any shape, the same for both; a floating-point dtype.
        approximate: "none" or "tanh", see `gelu`.
        memory: whether gelu(gate) is kept, see `swiglu`: "save" or "recompute".

    Saves: gate and up, and gelu(gate) where `memory` has it. Source: Shazeer, https://arxiv.org/abs/2002.05202.

    Raises RuntimeError where shapes or dtypes differ, or for another `approximate`; ValueError for another `memory`.

    >>> geglu(torch.tensor([1.0]), torch.tensor([2.0]))
    tensor([1.6827])
    """
    _check_gated("geglu", gate, up)
    out, active = _gated_and_kept("geglu", _kind(approximate), gate, up, memory)
    return keep(out, active=active)  # type: ignore[return-value]


@geglu.vjp("gate", "up")
def _(grad: Tensor, gate: Tensor, up: Tensor, approximate: str, active: Tensor | None) -> tuple[Tensor, Tensor]:
    return _gated_gradients(_kind(approximate), grad, gate, up, active)


def _gated_and_kept(name: str, kind: int, gate: Tensor, up: Tensor, memory: str) -> tuple[Tensor, Tensor | None]:
    """The output, and the activation of the gate where it is to be kept."""
    if memory not in _MEMORY:
        raise ValueError(f"{name}: memory must be one of {', '.join(map(repr, _MEMORY))}, got {memory!r}")
    if memory == "recompute" or kernels(gate, up) is not None:
        return recomputable(_gated(kind, gate, up), _gated, kind, gate, up), None
    active = recomputable(_activate(kind, gate), _activate, kind, gate)
    return recomputable(active * up, _gated_at_once, kind, gate, up), active


def _gated(kind: int, gate: Tensor, up: Tensor) -> Tensor:
    native = kernels(gate, up)
    if native is not None:
        rows = (_rows(tensor) for tensor in (gate, up))
        return native.gated(kind, *rows).view(gate.shape)  # type: ignore[no-any-return]
    if watched():
        return _gated_at_once(kind, gate, up)
    gates, ups = _rows(gate), _rows(up)
    out = torch.empty(gates.shape, dtype=gate.dtype, device=gate.device)
    parallel_for(pieces(*gates.shape), lambda at: torch.mul(_activate(kind, gates[at]), ups[at], out=out[at]), gates)
    return out.view(gate.shape)


def _gated_at_once(kind: int, gate: Tensor, up: Tensor) -> Tensor:
    return _activate(kind, gate) * up


def _gated_gradients(
    kind: int, grad: Tensor, gate: Tensor, up: Tensor, active: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    native = kernels(grad, gate, up)
    if native is not None:
        for_gate, for_up = native.gated_backward(kind, *(_rows(tensor) for tensor in (grad, gate, up)))
        return for_gate.view(gate.shape), for_up.view(up.shape)
    if watched():
        return _slope(kind, grad * up, gate), grad * (_activate(kind, gate) if active is None else active)
    if active is not None:
        for_gate = grad * up
        _slope_into(for_gate, kind, for_gate, gate)
        return for_gate, grad * active
    upstream, gates, ups = _rows(grad), _rows(gate), _rows(up)
    for_gate, for_up = (torch.empty(gates.shape, dtype=gate.dtype, device=gate.device) for _ in range(2))

    def gradients(at: slice) -> None:
        active = _activate(kind, gates[at])
        torch.mul(upstream[at], active, out=for_up[at])
        _slope_into(for_gate[at], kind, torch.mul(upstream[at], ups[at], out=active), gates[at])

    parallel_for(pieces(*gates.shape), gradients, gates)
    return for_gate.view(gate.shape), for_up.view(up.shape)


def _activate(kind: int, x: Tensor) -> Tensor:
    return functional.silu(x) if kind == _SILU else functional.gelu(x, approximate=_name(kind))


def _slope(kind: int, grad: Tensor, x: Tensor) -> Tensor:
    """The gradient of an activation: in one pass, and where that has no derivative of its own, written out."""
    if kind != _SILU:
        return _gelu_backward(grad, x, approximate=_name(kind))  # type: ignore[no-any-return]
    if not watched():
        return _silu_backward(grad, x)  # type: ignore[no-any-return]
    wide = x.to(accumulation(x.dtype))
    sigma = torch.sigmoid(wide)
    return (grad * (sigma * (1 + wide * (1 - sigma)))).to(grad.dtype)


def _slope_into(out: Tensor, kind: int, grad: Tensor, x: Tensor) -> None:
    if kind == _SILU:
        _silu_backward_out(grad, x, grad_input=out)
    else:
        _gelu_backward_out(grad, x, approximate=_name(kind), grad_input=out)


def _name(kind: int) -> str:
    return "tanh" if kind == _GELU_TANH else "none"


def _kind(approximate: str) -> int:
    if approximate not in ("none", "tanh"):
        raise RuntimeError(f"`approximate` is {approximate!r}, expected 'none' or 'tanh'")
    return _GELU_TANH if approximate == "tanh" else _GELU


def _rows(tensor: Tensor) -> Tensor:
    rows = as_rows(tensor, tensor.shape[-1] if tensor.dim() else 1)
    return rows if rows.shape[1] <= 1 or rows.stride(1) == 1 else rows.contiguous()


def _check_gated(name: str, gate: Tensor, up: Tensor) -> None:
    if gate.shape != up.shape or gate.dtype != up.dtype:
        raise RuntimeError(
            f"{name}: `up` is {up.dtype} of shape {list(up.shape)}, expected {gate.dtype} of shape "
            f"{list(gate.shape)} as `gate`"
        )
