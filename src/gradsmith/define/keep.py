"""How a forward hands values to its formulas that are neither arguments nor outputs: `keep`."""

from __future__ import annotations

from dataclasses import dataclass
from types import CodeType
from typing import Any


@dataclass(frozen=True)
class Kept:
    """A forward's result together with its residuals."""

    out: Any
    residuals: dict[str, Any]


@dataclass(frozen=True)
class Constant:
    """A residual that does not depend on any argument in a differentiable way: a random mask, an index."""

    value: Any


def keep(out: Any, /, **residuals: Any) -> Kept:
    """Return `out` from a forward and keep `residuals` for the formulas that ask for them by name.

    Only residuals that a formula of this call needs are saved. In a second derivative, a floating-point residual is
    computed again from the arguments, differentiably; where that cannot be done, an error is raised. A residual
    that is no function of the arguments, such as a random mask, is wrapped in `constant` to say so. Integer and
    boolean tensors and plain values are constants already.

    >>> import torch, gradsmith as gs
    >>> @gs.op(x=lambda grad, x, lse: (x - lse).exp() * grad)
    ... def logsumexp(x):
    ...     lse = torch.logsumexp(x, -1, keepdim=True)
    ...     return gs.keep(lse.squeeze(-1), lse=lse)
    """
    return Kept(out, residuals)


def constant(value: Any) -> Constant:
    """Mark a residual as independent of the arguments, so that a second derivative takes it as it is.

    >>> import torch, gradsmith as gs
    >>> @gs.op(x=lambda grad, mask: grad * mask)
    ... def drop(x):
    ...     mask = (torch.rand_like(x) > 0.5).to(x.dtype)
    ...     return gs.keep(x * mask, mask=gs.constant(mask))
    """
    return Constant(value)


def residual_names(forward: object) -> tuple[str, ...]:
    """The keyword names that a forward's code can hand to `keep`: what its formulas may ask for.

    Read from the code object, so that a misspelt name in a formula is found when the op is defined. A forward whose
    code cannot be read (a builtin, a callable object) has none; it declares them with `residuals=`.
    """
    code = getattr(forward, "__code__", None)
    return tuple(dict.fromkeys(_keyword_names(code))) if isinstance(code, CodeType) else ()


def _keyword_names(code: CodeType) -> list[str]:
    names: list[str] = []
    if "keep" in {*code.co_names, *code.co_freevars}:
        for const in code.co_consts:
            if isinstance(const, tuple) and const and all(isinstance(name, str) for name in const):
                names.extend(const)
    for const in code.co_consts:
        if isinstance(const, CodeType):
            names.extend(_keyword_names(const))
    return names
