"""What all elementwise surrogates share: a forward that keeps shape and dtype, and a formula on its first arguments."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import ParamSpec

from torch import Tensor

from gradsmith.define.errors import CallError, DefinitionError

P = ParamSpec("P")

_BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def argument_names(forward: Callable[..., object], kind: str) -> tuple[str, ...]:
    """The names of the arguments that `forward` takes by position.

    ("x",) for a builtin such as torch.round, whose names cannot be read. Raises DefinitionError where there is none.
    """
    try:
        parameters = inspect.signature(forward).parameters.values()
    except (ValueError, TypeError):
        return ("x",)
    names = tuple(parameter.name for parameter in parameters if parameter.kind in _BY_POSITION)
    if not names:
        raise DefinitionError(f"{kind}: the forward must take a tensor by position, got {forward!r}")
    return names


def leading(function: Callable[..., object], names: Sequence[str]) -> tuple[str, ...]:
    """The first of `names`: as many as `function` takes by position, one where that cannot be read."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (ValueError, TypeError):
        return tuple(names[:1])
    return tuple(names[: sum(p.kind in _BY_POSITION and p.default is inspect.Parameter.empty for p in parameters)])


def formula(function: Callable[..., Tensor], *names: str) -> Callable[..., Tensor]:
    """`function`, whose parameters are called `names` to an op that reads them: it is called by position."""
    renamed = functools.wraps(function)(lambda *values: function(*values))
    parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in names]
    renamed.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return renamed


def keeping_dtype(forward: Callable[P, Tensor], kind: str, *, keep_shape: bool) -> Callable[P, Tensor]:
    """`forward`, which raises where its output could not carry the gradient of its first argument.

    A comparison returns booleans, through which autograd sends nothing, without a word.
    """
    name = getattr(forward, "__name__", type(forward).__name__)

    @functools.wraps(forward)
    def checked(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        out = forward(*args, **kwargs)
        x = next((value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)), None)
        if not isinstance(out, Tensor) or x is None or not x.is_floating_point():
            return out
        if out.dtype != x.dtype:
            raise CallError(
                f"{kind}: {name} returned {out.dtype} for an argument of {x.dtype}, expected the same dtype, "
                f"without which no gradient comes back: return out.to(x.dtype)"
            )
        if keep_shape and out.shape != x.shape:
            raise CallError(
                f"{kind}: {name} returned the shape {tuple(out.shape)} for an argument of {tuple(x.shape)}, expected "
                f"the same, since its gradient is an elementwise one; for others there is surrogate(…, primitive=…)"
            )
        return out

    return checked
