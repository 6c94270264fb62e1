"""The arguments of a forward, and how a call is bound to them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gradsmith.define.errors import CallError, DefinitionError

_EMPTY = inspect.Parameter.empty


@dataclass(frozen=True)
class Signature:
    """The parameters of a forward as plain tuples, so that binding a call is quick and can be traced.

    A call is bound to one value per parameter, in order; the value of `*args` is a tuple, that of `**kwargs` a dict.
    """

    name: str  # of the op, for messages
    names: tuple[str, ...]
    defaults: tuple[Any, ...]  # one per name; inspect.Parameter.empty where there is none
    positional: int  # the first so many may be given by position
    positional_only: int  # the first so many may only be given by position
    variadic: str | None  # the name of *args
    keywords: str | None  # the name of **kwargs

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
        """One value per parameter. Raises CallError as Python itself would raise TypeError."""
        if not kwargs and len(args) == len(self.names) and self.positional == len(args):
            return args
        if len(args) > self.positional and self.variadic is None:
            raise CallError(
                f"{self.name}() takes {self.positional} positional arguments ({', '.join(self.names)}) "
                f"but {len(args)} were given"
            )
        rest = dict(kwargs)
        values: list[Any] = []
        for index, name in enumerate(self.names):
            if name == self.variadic:
                values.append(tuple(args[self.positional :]))
            elif name == self.keywords:
                continue
            elif index < self.positional and index < len(args):
                if name in rest and index >= self.positional_only:
                    raise CallError(f"{self.name}() got two values for `{name}`: by position and by keyword")
                values.append(args[index])
            elif name in rest and index >= self.positional_only:
                values.append(rest.pop(name))
            elif self.defaults[index] is not _EMPTY:
                values.append(self.defaults[index])
            else:
                raise CallError(f"{self.name}() is missing `{name}`; it takes ({', '.join(self.names)})")
        if self.keywords is not None:
            values.append(rest)
        elif rest:
            raise CallError(
                f"{self.name}() got an unknown argument `{next(iter(rest))}`; it takes ({', '.join(self.names)})"
            )
        return tuple(values)

    def call(self, forward: Callable[..., Any], values: Sequence[Any]) -> Any:
        """Call `forward` with one value per parameter, as `bind` returns them."""
        if self.positional == len(self.names):
            return forward(*values)
        args = list(values[: self.positional])
        kwargs = {}
        for name, value in zip(self.names[self.positional :], values[self.positional :], strict=True):
            if name == self.variadic:
                args.extend(value)
            elif name == self.keywords:
                kwargs.update(value)
            else:
                kwargs[name] = value
        return forward(*args, **kwargs)


def read_signature(name: str, forward: Callable[..., Any], targets: Sequence[str], skip: int = 0) -> Signature:
    """The signature of `forward` without its first `skip` parameters.

    Builtins such as `torch.exp` have none that Python can read: their arguments are then the formulas' `targets`,
    by position and in the order in which they were written.
    """
    try:
        parameters = list(inspect.signature(forward).parameters.values())[skip:]
    except (ValueError, TypeError):
        if not targets:
            raise DefinitionError(
                f"op {name}: the arguments of {forward!r} cannot be read; give its formulas in the order of its "
                f"arguments, as in gs.op(torch.exp, x=lambda grad, out: grad * out)"
            ) from None
        count = len(targets)
        return Signature(name, tuple(targets), (_EMPTY,) * count, count, count, None, None)
    kinds = [p.kind for p in parameters]
    by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    named = {p.kind: p.name for p in parameters}
    return Signature(
        name=name,
        names=tuple(p.name for p in parameters),
        defaults=tuple(p.default for p in parameters),
        positional=sum(kind in by_position for kind in kinds),
        positional_only=sum(kind is inspect.Parameter.POSITIONAL_ONLY for kind in kinds),
        variadic=named.get(inspect.Parameter.VAR_POSITIONAL),
        keywords=named.get(inspect.Parameter.VAR_KEYWORD),
    )
