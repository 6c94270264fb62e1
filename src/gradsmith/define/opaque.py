"""`opaque`: code that torch cannot trace (NumPy, SciPy, numba, Triton, a C library) as a torch.library operator.

The operator has a fake kernel, a vmap rule and a rule for DTensors, so torch.compile, torch.export, torch.func and
FakeTensor see a function of known shapes. It has no derivative, and says so: to differentiate it raises by every
route, where an operator without a rule gives silent zeros. The derivative belongs in a formula of an `op` around it.
"""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, TypeVar

import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor

from gradsmith.define._private import forward_ad_active, functorch_active
from gradsmith.define.errors import CallError, DefinitionError, FormulaError, SecondDerivativeError
from gradsmith.define.function import pull
from gradsmith.define.guard import refuse
from gradsmith.define.primitive import Meta, is_differentiable
from gradsmith.define.saving import remember
from gradsmith.define.sharding import replicate
from gradsmith.define.table import TablePrimitive

F = TypeVar("F", bound=Callable[..., Any])
_serial = count()
_TYPES: dict[Any, str] = {
    Tensor: "Tensor",
    Tensor | None: "Tensor?",
    list[Tensor]: "Tensor[]",
    Sequence[Tensor]: "Tensor[]",
    int: "SymInt",
    float: "float",
    bool: "bool",
    str: "str",
    torch.dtype: "ScalarType",
}


class Opaque:
    """A function that torch calls without looking into it. Made by `opaque`."""

    def __init__(self, function: Callable[..., Any], shape_rule: Callable[..., Any], outputs: int) -> None:
        self.function, self.shape_rule, self.outputs = function, shape_rule, outputs
        self.__name__ = self.name = getattr(function, "__name__", type(function).__name__)
        self.__doc__ = function.__doc__
        self.__signature__ = inspect.signature(function)
        self.__wrapped__ = function
        self._checked: set[Any] = set()
        self._primitive: TablePrimitive | None = None
        identifier = re.sub(r"\W", "_", f"{getattr(function, '__module__', '')}_{self.name}_{next(_serial)}")
        schema = f"({', '.join(self._parameters())}) -> {self._returns()}"
        self.operator: Any = torch.library.custom_op(
            f"gradsmith::{identifier}", self._run, mutates_args=(), schema=schema
        )
        self.operator.register_fake(self._fake)
        self.operator.register_vmap(self._vmap)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function. Its results cannot be differentiated: that raises SecondDerivativeError."""
        try:
            bound = self.__signature__.bind(*args, **kwargs)
        except TypeError as error:
            raise CallError(f"{self.name}: {error}") from None
        bound.apply_defaults()
        values = list(bound.arguments.values())
        replicate(self.operator, values)
        with torch.no_grad():
            result = self.operator(*values)
        paths = [leaf for value in values for leaf in (value if isinstance(value, (list, tuple)) else [value])]
        if not self._watched(paths):
            return result
        outputs = list(result) if isinstance(result, (tuple, list)) else [result]
        tied = iter(refuse(self._complaint, [out for out in outputs if is_differentiable(out)], paths))
        outputs = [next(tied) if is_differentiable(out) else out for out in outputs]
        return tuple(outputs) if isinstance(result, (tuple, list)) else outputs[0]

    def _watched(self, values: Sequence[Any]) -> bool:
        """Whether a derivative by any of the values could be asked for."""
        tensors = [value for value in values if is_differentiable(value)]
        if not tensors:
            return False
        if functorch_active():
            return True
        if forward_ad_active() and any(forward_ad.unpack_dual(tensor).tangent is not None for tensor in tensors):
            return True
        return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)

    def _complaint(self) -> Exception:
        return SecondDerivativeError(
            f"{self.name} is opaque: torch cannot see into it, so it has no derivative of its own. Make it the forward "
            f"of an op with a formula, gs.op({self.name}, x=lambda grad, x: …); where it stands in a formula, the same "
            f"gives the second derivative."
        )

    def differentiate(self, primitive: TablePrimitive) -> None:
        """Give the operator itself the formulas of an op around it, for programs that call the operator."""
        registered, self._primitive = self._primitive is not None, primitive
        if registered:
            return

        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
            assert self._primitive is not None
            result = output if isinstance(output, Tensor) else self._primitive.take_apart(output, inputs)
            needs = ctx.needs_input_grad[: len(inputs)]  # torch counts an argument of its own
            remember(ctx, self._primitive, inputs, result, needs, False)

        def backward(ctx: Any, *upstream: Any) -> Any:
            assert self._primitive is not None
            grads = pull(self._primitive, ctx, ctx.kept, upstream)
            return grads[0] if len(grads) == 1 else grads

        self.operator.register_autograd(backward, setup_context=setup_context)

    # ---- the operator ------------------------------------------------------------------------------------------

    def _parameters(self) -> list[str]:
        hints = _hints(self.function)
        words = []
        for parameter in self.__signature__.parameters.values():
            if parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
                raise DefinitionError(f"opaque {self.name}: *args and **kwargs have no place in an operator; name them")
            words.append(f"{self._type_of(parameter, hints)} {parameter.name}")
        return words

    def _type_of(self, parameter: inspect.Parameter, hints: dict[str, Any]) -> str:
        hint = hints.get(parameter.name)
        if hint is None:
            default = parameter.default
            if default is None:
                return "Tensor?"
            return _TYPES.get(type(default), "Tensor")
        if hint not in _TYPES:
            known = ", ".join(str(key) for key in _TYPES)
            raise DefinitionError(
                f"opaque {self.name}: `{parameter.name}` is annotated {hint}, which an operator cannot take; it "
                f"takes {known}"
            )
        return _TYPES[hint]

    def _returns(self) -> str:
        return "Tensor" if self.outputs == 1 else f"({', '.join(['Tensor'] * self.outputs)})"

    def _run(self, *args: Any) -> Any:
        with torch.no_grad():
            results = self._as_outputs(self.function(*args))
        self._check(args, results)
        storages = {a.untyped_storage().data_ptr() for a in args if isinstance(a, Tensor) and a.numel()}
        fresh = [out.clone() if out.untyped_storage().data_ptr() in storages else out for out in results]
        return fresh[0] if self.outputs == 1 else tuple(fresh)

    def _as_outputs(self, result: Any) -> list[Tensor]:
        results = [result] if self.outputs == 1 else result
        if not isinstance(results, (tuple, list)) or len(results) != self.outputs:
            raise FormulaError(
                f"opaque {self.name} returned {type(result).__name__}, expected {self.outputs} tensors, as "
                f"outputs= says"
            )
        return [torch.as_tensor(out) for out in results]

    def _check(self, args: Sequence[Any], results: Sequence[Tensor]) -> None:
        """Compare the results with what the shape rule says: once for each set of shapes."""
        key = tuple(Meta.of(arg) if isinstance(arg, Tensor) else repr(arg) for arg in args)
        if key in self._checked:
            return
        metas = [torch.empty_like(arg, device="meta") if isinstance(arg, Tensor) else arg for arg in args]
        expected = self._as_outputs(self.shape_rule(*metas))
        for index, (got, want) in enumerate(zip(results, expected, strict=True)):
            if got.shape != want.shape or got.dtype != want.dtype:
                raise FormulaError(
                    f"opaque {self.name}: output {index} is {got.dtype} of shape {tuple(got.shape)}, but its shape "
                    f"rule says {want.dtype} of shape {tuple(want.shape)}"
                )
        self._checked.add(key)

    def _fake(self, *args: Any) -> Any:
        return self.shape_rule(*args)

    def _vmap(self, info: Any, in_dims: Sequence[Any], *args: Any) -> Any:
        """One call for each example of the batch."""
        if info.batch_size == 0:
            raise CallError(f"opaque {self.name}: vmap over a batch of size 0 has no example to call it with")
        batch = range(info.batch_size)
        columns = [[_example(arg, dim, i) for arg, dim in zip(args, in_dims, strict=True)] for i in batch]
        results = [self.operator(*column) for column in columns]
        if self.outputs == 1:
            return torch.stack(results), 0
        return tuple(torch.stack(outs) for outs in zip(*results, strict=True)), (0,) * self.outputs


def _example(arg: Any, dim: Any, index: int) -> Any:
    if isinstance(arg, (list, tuple)) and isinstance(dim, (list, tuple)):
        return [_example(one, d, index) for one, d in zip(arg, dim, strict=True)]
    return arg if dim is None else arg.select(dim, index)


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function)
    except (NameError, TypeError, AttributeError):  # names of another module, or a callable without hints
        return {}


def opaque(shape_rule: Callable[..., Any], *, outputs: int = 1) -> Callable[[Callable[..., Any]], Opaque]:
    """Declare a function that torch cannot trace, with a rule for the shapes of its results.

    Args:
        shape_rule: takes the same arguments and returns empty tensors of the shape and dtype of the results. It must
            compute with shapes alone, never with values.
        outputs: how many tensors the function returns (as a tuple, if more than one).

    Parameters are tensors, unless their annotation or default says otherwise: `Tensor | None`, `list[Tensor]`, int,
    float, bool, str, torch.dtype. The function gets detached tensors, so `.numpy()` works, and may return NumPy arrays.
    `opaque(…).operator` is the `torch.library` operator, for `torch.library.opcheck`.

    Raises DefinitionError for parameters that an operator cannot have.

    >>> import numpy, torch, gradsmith as gs
    >>> @gs.opaque(lambda x: torch.empty_like(x))
    ... def sinc(x):
    ...     return numpy.sinc(x.numpy())
    >>> sinc(torch.tensor([0.0, 0.5], dtype=torch.float64))
    tensor([1.0000, 0.6366], dtype=torch.float64)
    """
    if not callable(shape_rule):
        raise DefinitionError("opaque takes a shape rule: @gs.opaque(lambda x: torch.empty_like(x))")
    return lambda function: Opaque(function, shape_rule, outputs)
