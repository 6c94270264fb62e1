"""The cases in whatever `check` is given: a Function, a module or any callable that calls some."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch

from gradsmith.check.case import Case, declaration
from gradsmith.check.isolation import Raised, seeded
from gradsmith.check.record import record
from gradsmith.check.tree import paths, rebuilt, tensors, tree_map


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
        return _with_reference([case], reference, inputs, kwargs)
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
        return _with_reference(recording.cases, reference, inputs, kwargs)
    if failure is not None:
        raise failure
    return [_plain_case(fn, inputs, kwargs, reference)]


def function_class_of(fn: Any) -> type[torch.autograd.Function] | None:
    """The Function class that `fn` is, or is the `apply` of."""
    owner = getattr(fn, "__self__", None) if inspect.ismethod(fn) and fn.__name__ == "apply" else fn
    return owner if inspect.isclass(owner) and issubclass(owner, torch.autograd.Function) else None


def _with_reference(
    cases: list[Case], reference: Callable[..., Any] | None, inputs: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> list[Case]:
    """A `reference` belongs to the callable; it can be a Function's only where there is one."""
    if reference is None:
        return cases
    if len({case.name for case in cases}) > 1:
        names = ", ".join(dict.fromkeys(case.name for case in cases))
        raise ValueError(
            f"reference= is for one Function, and this callable applies several: {names}; check each alone"
        )
    return [dataclasses.replace(case, reference=_called_alike(reference, case, inputs, kwargs)) for case in cases]


def _called_alike(
    reference: Callable[..., Any], case: Case, inputs: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Callable[..., Any]:
    """`reference` called as the Function was: `inputs` by position, the others by keyword, containers put together.

    Its parameters may stand in another order, and it may have others between them.
    """
    given = paths(inputs, "") if declaration(case.function_class) is not None else list(inputs)  # an op's are leaves
    names = case.argument_names[len(given) :]
    words = {key: [name for name, _ in paths(value, key)] for key, value in kwargs.items()}
    if not {name for found in words.values() for name in found} <= set(names):
        return reference

    def call(*values: Any, **others: Any) -> Any:
        named = dict(zip(names, values[len(given) :], strict=True))
        spelled = {key: rebuilt(kwargs[key], [named[name] for name in found]) for key, found in words.items()}
        first = values[: len(given)]
        return reference(*(first if len(given) == len(inputs) else rebuilt(inputs, first)), **spelled, **others)

    return call


def _requiring(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The inputs, all floating ones requiring a gradient if none does."""
    if any(tensor.requires_grad for tensor in tensors(inputs)):
        return inputs
    return tuple(tree_map(_with_gradient, value) for value in inputs)


def _with_gradient(value: Any) -> Any:
    floating = isinstance(value, torch.Tensor) and value.is_floating_point()
    return value.detach().requires_grad_() if floating else value


def _plain_case(
    fn: Callable[..., Any],
    inputs: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    reference: Callable[..., Any] | None,
) -> Case:
    """A callable as its own case, with every leaf of its arguments, and each parameter of a module, as an argument."""
    module = fn if isinstance(fn, torch.nn.Module) else None
    name = getattr(fn, "__qualname__", type(fn).__name__) if module is None else type(fn).__name__
    parameters = {} if module is None else dict(module.named_parameters())
    words = {key: value for key, value in kwargs.items() if tensors(value)}
    given = (inputs, words)
    roots = zip((*_positional_names(fn, len(inputs)), *words), (*inputs, *words.values()), strict=True)
    flat = [found for root, value in roots for found in paths(value, root)]

    def flattened(function: Callable[..., Any], by_name: bool) -> Callable[..., Any]:
        def call(*values: Any, **others: Any) -> Any:
            positional, spelled = rebuilt(given, values[: len(flat)])
            rest = values[len(flat) :]
            if by_name and module is not None:
                named = dict(zip(parameters, rest, strict=True))
                return torch.func.functional_call(module, named, positional, {**spelled, **others})
            return function(*positional, *rest, **spelled, **others)

        return functools.wraps(function)(call) if hasattr(function, "__name__") else call

    values = tuple(parameter.detach().clone().requires_grad_() for parameter in parameters.values())
    return Case(
        function=flattened(fn if module is None else module.forward, by_name=module is not None),
        inputs=(*(value for _, value in flat), *values),
        kwargs={key: value for key, value in kwargs.items() if key not in words},
        name=name,
        argument_names=(*(path for path, _ in flat), *parameters),
        reference=None if reference is None else flattened(reference, by_name=False),
    )


def _positional_names(fn: Callable[..., Any], count: int) -> list[str]:
    target = fn.forward if isinstance(fn, torch.nn.Module) else fn
    try:
        names = list(inspect.signature(target).parameters)[:count]
    except (TypeError, ValueError):
        names = []
    return names + [f"argument {i}" for i in range(len(names), count)]
