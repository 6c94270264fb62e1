"""A `Case`: one Function, or any callable, with arguments to call it with."""

from __future__ import annotations

import copy
import functools
import inspect
import linecache
import random
import re
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from gradsmith.check._private import backward_name, uses_setup_context
from gradsmith.check.finding import Location
from gradsmith.check.tree import is_float, tree_map


@dataclass(frozen=True, eq=False)
class Case:
    """What is checked. `Case.of(SomeFunction, (x, w))` fills in names and locations from the class."""

    function: Callable[..., Any]  # called as function(*inputs, **kwargs)
    inputs: tuple[Any, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""  # as its author calls it: "LinearFunction"
    argument_names: tuple[str, ...] = ()  # one for each of `inputs`
    reference: Callable[..., Any] | None = None  # a plain forward whose autodiff is the truth
    function_class: type[torch.autograd.Function] | None = None

    @classmethod
    def of(
        cls,
        function_class: type[torch.autograd.Function],
        inputs: tuple[Any, ...],
        kwargs: Mapping[str, Any] | None = None,
        *,
        reference: Callable[..., Any] | None = None,
    ) -> Case:
        """The case of a Function class; keyword arguments become positional, so that each has its
        gradient."""
        plan = declaration(function_class)
        if plan is None:
            inputs, kwargs = _positional(function_class, inputs, kwargs or {})
        else:  # what an op adds to the author's arguments comes last
            inputs, kwargs = tuple(inputs[: len(plan.argument_names)]), {}
        names = tuple(getattr(plan, "argument_names", ()) or ()) or argument_names(function_class, len(inputs))
        return cls(
            function=getattr(plan, "call", None) or function_class.apply,
            inputs=inputs,
            kwargs=kwargs,
            name=str(getattr(plan, "name", function_class.__name__)),
            argument_names=_padded(names, len(inputs)),
            reference=reference or getattr(plan, "surrogate", None) or getattr(function_class, "reference", None),
            function_class=function_class,
        )

    @property
    def needs_grad(self) -> tuple[bool, ...]:
        """For each input, whether its gradient is asked for; all that can have one, if the caller asked for
        none."""
        return self.asked_for if any(self.asked_for) else tuple(is_float(value) for value in self.inputs)

    @property
    def asked_for(self) -> tuple[bool, ...]:
        """For each input, whether the caller asked for its gradient."""
        return tuple(is_float(value) and value.requires_grad for value in self.inputs)

    def location(self, what: str = "backward", argument: str | None = None) -> Location | None:
        """Where the author wrote `what` ("forward", "backward", "jvp", ...): the formula of `argument` for
        an op."""
        plan = declaration(self.function_class)
        if plan is not None:
            written = plan.locate(argument) if what == "backward" and argument is not None else None
            return locate(written or plan.forward)
        if self.function_class is None:
            return locate(self.function)
        if what == "backward":
            what = backward_name(self.function_class)
        return locate(getattr(self.function_class, what, None)) or locate(self.function_class)


def declaration(function_class: type | None) -> Any:
    """What a gradsmith op says of itself (name, forward, formulas), or None for any other Function."""
    return getattr(function_class, "__gradsmith__", None)


def argument_names(function_class: type[torch.autograd.Function], count: int) -> tuple[str, ...]:
    """The names of `forward`'s parameters without `ctx`; a variadic one is numbered: `xs[0]`, `xs[1]`."""
    try:
        parameters = list(inspect.signature(function_class.forward).parameters.values())
    except (TypeError, ValueError):
        return ()
    if not uses_setup_context(function_class):
        parameters = parameters[1:]
    names: list[str] = []
    for parameter in parameters:
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            names += [f"{parameter.name}[{i}]" for i in range(count - len(names))]
        elif parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            names.append(parameter.name)
    return tuple(names[:count])


def _padded(names: tuple[str, ...], count: int) -> tuple[str, ...]:
    return names[:count] + tuple(f"argument {i}" for i in range(len(names), count))


def _positional(
    function_class: type[torch.autograd.Function], inputs: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if not kwargs:
        return tuple(inputs), {}
    signature = inspect.signature(function_class.forward)
    leading = () if uses_setup_context(function_class) else (None,)
    bound = signature.bind(*leading, *inputs, **kwargs)
    bound.apply_defaults()
    return tuple(bound.args[len(leading) :]), dict(bound.kwargs)


def locate(written: Any) -> Location | None:
    """File and line of a function or class as its author wrote it, decorators unwrapped; None where it has
    no source."""
    if isinstance(written, functools.partial):
        written = written.func
    if written is None:
        return None
    written = inspect.unwrap(written)
    code = getattr(written, "__code__", None)
    try:
        if code is not None:
            file, line = code.co_filename, code.co_firstlineno
            linecache.checkcache(file)
            while line < code.co_firstlineno + 50 and linecache.getline(file, line).lstrip().startswith("@"):
                line += 1
        elif (above := _above_its_methods(written)) is not None:
            file, line = above
        else:
            file = inspect.getsourcefile(written) or ""
            line = inspect.getsourcelines(written)[1]
    except (TypeError, OSError):
        return None
    return Location(file, line, linecache.getline(file, line).strip()) if file else None


def _above_its_methods(written: Any) -> tuple[str, int] | None:
    """Where a class begins; `inspect` looks for that in its module's file, which a notebook's cell has not."""
    if not isinstance(written, type):
        return None
    methods = [inspect.unwrap(getattr(value, "__func__", value)) for value in vars(written).values()]
    for method in methods:
        if isinstance(method, types.FunctionType) and method.__qualname__.startswith(f"{written.__qualname__}."):
            head = re.compile(rf"\s*class\s+{written.__name__}\b")
            file = method.__code__.co_filename
            linecache.checkcache(file)
            for line in range(method.__code__.co_firstlineno, 0, -1):
                if head.match(linecache.getline(file, line)):
                    return file, line
    return None


def copy_arguments(arguments: Any) -> Any:
    """A deep copy of what a Function was called with, that later changes do not reach.

    Tensors are detached and keep `requires_grad`, layout and shared storage; arrays and generators are
    copied; what else there is (numbers, strings, modules, callables) is taken as it is.
    """
    storages: dict[int, torch.UntypedStorage] = {}
    copies: dict[int, torch.Tensor] = {}

    def leaf(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            if id(value) not in copies:
                copies[id(value)] = _copy_tensor(value, storages)
            return copies[id(value)]
        if isinstance(value, torch.Generator):
            return value.clone_state()
        if isinstance(value, np.ndarray | np.random.Generator | np.random.RandomState | random.Random):
            return copy.deepcopy(value)
        return value

    return tree_map(leaf, arguments)


def _copy_tensor(tensor: torch.Tensor, storages: dict[int, torch.UntypedStorage]) -> torch.Tensor:
    plain = tensor.detach()
    if plain.layout is not torch.strided or plain.device.type == "meta" or type(plain) is not torch.Tensor:
        return plain.clone().requires_grad_(tensor.requires_grad)
    storage = plain.untyped_storage()
    if storage.nbytes() > 8 * max(plain.numel() * plain.element_size(), 1024):
        # A small view of a large buffer: its own elements are enough.
        return plain.clone().requires_grad_(tensor.requires_grad)
    if storage.data_ptr() not in storages:
        storages[storage.data_ptr()] = copy.copy(storage)
    kept = storages[storage.data_ptr()]
    copied = torch.empty(0, dtype=plain.dtype, device=plain.device)
    copied.set_(kept, plain.storage_offset(), plain.size(), plain.stride())
    if plain.is_conj():
        copied = copied.conj()
    return copied.requires_grad_(tensor.requires_grad)
