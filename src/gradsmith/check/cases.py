"""The cases in whatever `check` is given: a Function, a module or any callable that calls some."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch

from gradsmith.check.case import Case
from gradsmith.check.isolation import Raised, seeded
from gradsmith.check.record import record


def cases_of(
    fn: Any,
    inputs: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    reference: Callable[..., Any] | None = None,
) -> list[Case]:
    """The cases in `fn`: itself if it is a Function, else those it calls, else itself as a plain callable.

    Raises:
        Raised: calling `fn` raises before it applied any Function.
        TypeError: `fn` is not callable.
    """
    function_class = function_class_of(fn)
    if function_class is not None:
        case = Case.of(function_class, inputs, kwargs)
        return _with_reference([case], reference, len(inputs), kwargs)
    if not callable(fn):
        raise TypeError(f"check takes a Function, a module or a callable, and got {type(fn).__name__}: {fn!r}")
    with record() as recording:
        failure: Raised | None = None
        try:
            with seeded(), torch.enable_grad():
                fn(*_requiring(inputs), **kwargs)
        except Exception as error:  # The isolation boundary: `fn` is anybody's code.
            failure = Raised("call", error)
    if recording.cases:
        return _with_reference(recording.cases, reference, len(inputs), kwargs)
    if failure is not None:
        raise failure
    return [_plain_case(fn, inputs, kwargs, reference)]


def function_class_of(fn: Any) -> type[torch.autograd.Function] | None:
    """The Function class that `fn` is, or is the `apply` of."""
    owner = getattr(fn, "__self__", None) if inspect.ismethod(fn) and fn.__name__ == "apply" else fn
    return owner if inspect.isclass(owner) and issubclass(owner, torch.autograd.Function) else None


def _with_reference(
    cases: list[Case], reference: Callable[..., Any] | None, given: int, kwargs: Mapping[str, Any]
) -> list[Case]:
    """A `reference` belongs to the callable; it can be a Function's only where there is one."""
    if reference is None:
        return cases
    if len({case.name for case in cases}) > 1:
        names = ", ".join(dict.fromkeys(case.name for case in cases))
        raise ValueError(
            f"reference= is for one Function, and this callable applies several: {names}; check each alone"
        )
    return [dataclasses.replace(case, reference=_called_alike(reference, case, given, kwargs)) for case in cases]


def _called_alike(
    reference: Callable[..., Any], case: Case, given: int, kwargs: Mapping[str, Any]
) -> Callable[..., Any]:
    """`reference` with `given` positional arguments and the others by keyword, as they were passed to the Function.

    Its parameters may stand in another order, and it may have others between them.
    """
    names = case.argument_names[given:]
    if not set(kwargs) <= set(names):
        return reference

    def call(*values: Any, **keywords: Any) -> Any:
        named = dict(zip(names, values[given:], strict=True))
        return reference(*values[:given], **{name: named[name] for name in names if name in kwargs}, **keywords)

    return call if kwargs else reference


def _requiring(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The inputs, all floating ones requiring a gradient if none does."""
    if any(isinstance(v, torch.Tensor) and v.requires_grad for v in inputs):
        return inputs
    return tuple(
        v.detach().requires_grad_() if isinstance(v, torch.Tensor) and v.is_floating_point() else v for v in inputs
    )


def _plain_case(
    fn: Callable[..., Any],
    inputs: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    reference: Callable[..., Any] | None,
) -> Case:
    """A callable as its own case; a module's parameters become arguments beside its inputs."""
    target = fn.forward if isinstance(fn, torch.nn.Module) else fn
    try:
        names = list(inspect.signature(target).parameters)[: len(inputs)]
    except (TypeError, ValueError):
        names = []
    names += [f"argument {i}" for i in range(len(names), len(inputs))]
    name = getattr(fn, "__qualname__", type(fn).__name__)
    if not isinstance(fn, torch.nn.Module):
        return Case(fn, inputs, dict(kwargs), name, tuple(names), reference)
    parameters = dict(fn.named_parameters())
    count = len(inputs)

    def call(*values: Any, **keywords: Any) -> Any:
        replaced = dict(zip(parameters, values[count:], strict=True))
        return torch.func.functional_call(fn, replaced, values[:count], keywords)

    values = tuple(parameter.detach().clone().requires_grad_() for parameter in parameters.values())
    return Case(call, (*inputs, *values), dict(kwargs), type(fn).__name__, (*names, *parameters), reference)
