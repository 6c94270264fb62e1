"""`Function`: the class style of every tutorial, on the same ground as `op`.

The author's forward and backward become a primitive, so what holds for ops holds for them: torch.func, vmap, forward
mode, torch.compile, autocast, keyword arguments, residuals that are differentiated instead of being taken as constants,
and a once-differentiable backward that refuses by every route.
"""

from __future__ import annotations

import inspect
from typing import Any, ClassVar

import torch
from torch import Tensor

from gradsmith.define import tree
from gradsmith.define.class_primitive import ClassPrimitive, has_setup
from gradsmith.define.compiling import when_compiling
from gradsmith.define.errors import DefinitionError
from gradsmith.define.function import Functions
from gradsmith.define.origin import Origin
from gradsmith.define.signature import Signature, read_signature


class Function(torch.autograd.Function):
    """A base class for custom gradients that takes the place of `torch.autograd.Function`.

    Write `forward(ctx, …)` (or `forward(…)` with `setup_context`) and `backward(ctx, grad_output)` as in every
    tutorial, and call `apply`. Changing the base class is the whole migration. Beyond what torch does,

    * keyword and keyword-only arguments, and tensors inside lists, tuples, dicts and dataclasses are tracked (the
      backward returns gradients in the structure of the argument);
    * torch.func, vmap, forward mode and torch.compile(fullgraph=True) work, and use this backward;
    * intermediate values that the forward saves are differentiated in a second derivative, or refused;
    * `torch.autograd.function.once_differentiable` refuses a second derivative by every route;
    * tensors left on `ctx` are saved as they should be, with a `ContextWarning`.

    A static method `reference(…)`, a plain forward, may be added for `gradsmith.check` to compare with.

    Raises CallError where the arguments do not fit the forward or it returns something other than tensors, and
    FormulaError where the backward returns the wrong number of gradients.

    >>> import torch, gradsmith as gs
    >>> class Exp(gs.Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         out = x.exp()
    ...         ctx.save_for_backward(out)
    ...         return out
    ...     @staticmethod
    ...     def backward(ctx, grad_output):
    ...         (out,) = ctx.saved_tensors
    ...         return grad_output * out
    >>> torch.func.grad(Exp.apply)(torch.tensor(0.0))
    tensor(1.)
    """

    _forms: ClassVar[dict[Any, Functions]]
    _signature: ClassVar[Signature]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._forms = {}
        if cls.forward is not torch.autograd.Function.forward:
            cls._signature = _read(cls)
        when_compiling(cls, torch.compiler.allow_in_graph)

    @classmethod
    def apply(cls, *args: Any, **kwargs: Any) -> Any:
        """Call the Function. Arguments as its forward takes them, without ctx."""
        if not hasattr(cls, "_signature"):
            raise DefinitionError(f"{cls.__name__} has no forward: write a static method forward(ctx, …)")
        values = cls._signature.bind(args, kwargs)
        leaves: list[Any] = []
        structures = tuple([tree.flatten(value, leaves) for value in values])
        functions = cls._forms.get(structures)
        if functions is None:
            primitive = ClassPrimitive(cls, structures)
            functions = cls._forms[structures] = Functions(primitive, _origin(cls, primitive))
        result = functions.call(*leaves)
        if isinstance(result, Tensor):
            return result
        return tree.unflatten(result[0].outputs, iter(result[1:]))


def _read(cls: type[Function]) -> Signature:
    names = list(inspect.signature(cls.forward).parameters)
    if has_setup(cls):
        return read_signature(cls.__name__, cls.forward, ())
    if not names:
        raise DefinitionError(f"{cls.__name__}.forward takes no arguments; write forward(ctx, …)")
    return read_signature(cls.__name__, cls.forward, (), skip=1)


def _origin(cls: type[Function], primitive: ClassPrimitive) -> Origin:
    return Origin(
        name=cls.__name__,
        forward=cls.forward,
        argument_names=primitive.argument_names,
        formulas=dict.fromkeys(cls._signature.names, primitive.backward),
        once=primitive.once,
        author_class=cls,
    )
