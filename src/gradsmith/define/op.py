"""`op`: a forward and a formula per argument become one function that is right everywhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import update_wrapper
from itertools import count
from typing import Any, Generic, ParamSpec, TypeVar, overload

import torch
from torch.compiler import is_compiling

from gradsmith.define import precision, tree
from gradsmith.define._private import in_graph
from gradsmith.define.compiling import when_compiling
from gradsmith.define.errors import DefinitionError
from gradsmith.define.form import Form
from gradsmith.define.formula import (
    Formula,
    Vocabulary,
    check_targets,
    read_formula,
    read_jvp,
)
from gradsmith.define.keep import residual_names
from gradsmith.define.opaque import Opaque
from gradsmith.define.origin import Origin
from gradsmith.define.precision import Cast
from gradsmith.define.signature import read_signature
from gradsmith.define.table import Table, TablePrimitive

P = ParamSpec("P")
R = TypeVar("R")
Rule = Callable[..., Any]
AnyRule = TypeVar("AnyRule", bound=Rule)
_serial = count()
_NONE = "\0None"  # stands for None among the arguments of a compiled graph, which take no None


class Op(Generic[P, R]):
    """A differentiable function made by `op`. Call it as you would call its forward."""

    def __init__(
        self,
        forward: Callable[P, R],
        formulas: Mapping[str, Rule | None],
        *,
        outputs: Sequence[str] | None = None,
        residuals: Sequence[str] | None = None,
        once: bool = False,
        cast: Cast = None,
        name: str | None = None,
        declared: str | None = None,
        surrogate: Rule | None = None,
    ) -> None:
        self.name = name or _name_of(forward, formulas)
        self.forward = forward
        update_wrapper(self, forward, updated=())  # its name, docstring and signature, for help, editors and doctest
        self._signature = read_signature(self.name, forward, tuple(formulas))
        found = residual_names(forward) if residuals is None else tuple(residuals)
        reserved = {*self._signature.names, *(outputs or ("out",))}
        self._words = Vocabulary(
            self.name,
            self._signature.names,
            tuple(outputs or ()),
            tuple(n for n in found if n not in reserved),
        )
        self._once, self._cast = once, cast
        self._declared, self._surrogate = declared, surrogate
        self._formulas: list[Formula] = []
        self._zero: set[str] = set()
        self._jvp: Formula | None = None
        self._vmap: Rule | None = None
        self._check_names()
        for target, function in formulas.items():
            self._add((target,), function)
        when_compiling(self, Op._enter_graphs)
        self._arity = self._signature.positional if self._signature.positional == len(self._signature.names) else -1
        self._rebuild()

    def _check_names(self) -> None:
        words = self._words
        clash = set(words.arguments) & {*words.upstreams, *(words.outputs or ("out",)), "needs"}
        if clash:
            name = sorted(clash)[0]
            raise DefinitionError(
                f"op {self.name}: the argument `{name}` has a name that formulas use for something else; rename it "
                f"in the forward, or wrap the forward in a function with other names"
            )

    # ---- formulas ----------------------------------------------------------------------------------------------

    def vjp(self, *targets: str) -> Callable[[AnyRule], AnyRule]:
        """Add a formula for one argument, or for several that share work (returning one gradient each, in order).

        >>> import gradsmith as gs
        >>> linear = gs.op(lambda input, weight: input @ weight.mT)
        >>> @linear.vjp("input", "weight")
        ... def _(grad, input, weight, needs):
        ...     return grad @ weight, grad.mT @ input

        A formula for several arguments runs when any of them needs a gradient; `needs["input"]` tells which, and what
        it returns for the others is ignored, so None will do.
        """
        if not targets or not all(isinstance(target, str) for target in targets):
            raise DefinitionError(
                f'op {self.name}: write @{self.name}.vjp("argument", …) with the names of its targets'
            )

        def decorate(function: AnyRule) -> AnyRule:
            self._add(targets, function)
            self._rebuild()
            return function

        return decorate

    def jvp(self, function: AnyRule) -> AnyRule:
        """Give the forward-mode rule, in place of the one derived from the formulas.

        It takes `tangent_x` for the tangent of an argument `x` (zeros where there is none), arguments, outputs and
        residuals, and returns the tangent of the output, in its structure.
        """
        if self._jvp is not None:
            raise DefinitionError(f"op {self.name}: it has a jvp already")
        self._jvp = read_jvp(function, self._words)
        self._rebuild()
        return function

    def vmap(self, function: AnyRule) -> AnyRule:
        """Give the vmap rule, in place of the derived one: `rule(info, in_dims, *args) -> (output, out_dims)`.

        As `torch.autograd.Function.vmap`: `info.batch_size`, `info.randomness`; `in_dims` has the structure of `args`.
        """
        if self._vmap is not None:
            raise DefinitionError(f"op {self.name}: it has a vmap rule already")
        self._vmap = function
        self._rebuild()
        return function

    def _add(self, targets: tuple[str, ...], function: Rule | None) -> None:
        for target in targets:
            if target in self._zero or any(target in formula.targets for formula in self._formulas):
                raise DefinitionError(f"op {self.name}: `{target}` has a formula already")
        if function is None:
            check_targets(targets, self._words)
            self._zero.update(targets)
        else:
            self._formulas.append(read_formula(targets, function, self._words))

    def _rebuild(self) -> None:
        self._table = Table(
            name=self.name,
            forward=self.forward,
            signature=self._signature,
            words=self._words,
            formulas=tuple(self._formulas),
            zero=frozenset(self._zero),
            jvp=self._jvp,
            vmap=self._vmap,
            once=self._once,
        )
        self._identity = f"{self.name} {next(_serial)}"
        self._forms: dict[tuple[tree.Structure, ...], Form] = {}
        self._simple = self._form((tree.LEAF,) * len(self._signature.names))
        if isinstance(self.forward, Opaque) and not self._once:
            self.forward.differentiate(self._simple.primitive)

    # ---- calls -------------------------------------------------------------------------------------------------

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the op. Raises CallError where the forward would not take the arguments."""
        values: Sequence[Any] = args
        if kwargs or len(args) != self._arity:
            values = self._signature.bind(args, kwargs)
        if is_compiling() and self._identity:  # reading it makes a graph valid for this very op only
            return self._graph_call(*[_NONE if value is None else value for value in values])  # type: ignore[no-any-return]
        return self._call(values)  # type: ignore[no-any-return]

    def _call(self, values: Sequence[Any]) -> Any:
        for value in values:
            if type(value) not in tree.PLAIN and tree.is_container(value):
                form, values = self._take_apart(values)
                break
        else:
            form = self._simple
        if self._cast is None:
            return form.call(*values)
        cast_values, autocast = precision.cast_arguments(self._cast, values)
        with autocast:
            return form.call(*cast_values)

    apply = __call__

    def _graph_call(self, *values: Any) -> Any:
        """The call that a compiled graph holds."""
        return self._call([None if isinstance(value, str) and value == _NONE else value for value in values])

    def _enter_graphs(self) -> None:
        call = self._graph_call
        self._graph_call = in_graph(lambda *values: call(*values))  # type: ignore[method-assign]

    def _take_apart(self, values: Sequence[Any]) -> tuple[Form, tuple[Any, ...]]:
        leaves: list[Any] = []
        structures = tuple([tree.flatten(value, leaves) for value in values])
        return self._form(structures), tuple(leaves)

    def _form(self, structures: tuple[tree.Structure, ...]) -> Form:
        form = self._forms.get(structures)
        if form is None:
            form = self._forms[structures] = Form(TablePrimitive(self._table, structures), self._origin)
        return form

    # ---- what it is --------------------------------------------------------------------------------------------

    @property
    def Function(self) -> type[torch.autograd.Function]:  # noqa: N802 - it is a class
        """The `torch.autograd.Function`, for arguments that are no containers: tensors and plain values by position."""
        return self._simple.functions.plain

    def _origin(self, primitive: TablePrimitive) -> Origin:
        return Origin(
            name=self.name,
            forward=self.forward,
            argument_names=primitive.argument_names,
            formulas={target: f.function for f in self._formulas for target in f.targets},
            once=self._once,
            surrogate=self._surrogate,
            declared=self._declared,
        )

    def __reduce__(self) -> str:
        """Pickled and copied as functions are: by its name in its module, so that it must be found there."""
        return str(getattr(self, "__qualname__", self.name))

    def __repr__(self) -> str:
        from gradsmith.define.describe import describe

        return describe(self._table)

    def saves(self, *needed: str) -> tuple[str, ...]:
        """The names of what a call saves when the gradients of the `needed` arguments matter (all, if none is named).

        >>> import gradsmith as gs
        >>> gs.linear.saves("input"), gs.linear.saves("bias")
        (('weight',), ('bias.shape',))
        """
        from gradsmith.define.describe import saved_names

        check_targets(needed, self._words)
        return saved_names(self._table, needed or self._words.arguments)

    def explain(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """What this very call would save: an `Explanation` with the bytes of each saved tensor, and its total.

        Runs the forward once. Which gradients matter is read from `requires_grad` of the arguments.
        """
        from gradsmith.define.describe import explain

        values = self._signature.bind(args, kwargs)
        form, leaves = self._take_apart(values)
        return explain(form.primitive, leaves)


def _name_of(forward: Any, formulas: Mapping[str, Any]) -> str:
    if not callable(forward):
        raise DefinitionError(f"op: the forward must be callable, got {forward!r}; formulas are given by keyword")
    name = getattr(forward, "__name__", type(forward).__name__)
    return f"lambda {', '.join(formulas)}" if name == "<lambda>" else name


@overload
def op(
    forward: Callable[P, R],
    /,
    *,
    outputs: Sequence[str] | None = None,
    residuals: Sequence[str] | None = None,
    once: bool = False,
    cast: Cast = None,
    **formulas: Rule | None,
) -> Op[P, R]: ...
@overload
def op(
    *,
    outputs: Sequence[str] | None = None,
    residuals: Sequence[str] | None = None,
    once: bool = False,
    cast: Cast = None,
    **formulas: Rule | None,
) -> Callable[[Callable[P, R]], Op[P, R]]: ...
def op(
    forward: Any = None,
    /,
    *,
    outputs: Sequence[str] | None = None,
    residuals: Sequence[str] | None = None,
    once: bool = False,
    cast: Cast = None,
    **formulas: Rule | None,
) -> Any:
    """Make a differentiable function of a forward and one formula per argument.

    The parameter names of a formula say what it needs, and so what is saved, for those arguments only that require a
    gradient in a call:

    =================  =========================================================================================
    `grad`             the upstream gradient, in the structure of the output
    `out`              the output
    an argument        its value; `x_shape`, `x_dtype`, `x_device` save no tensor
    a residual         what the forward handed over with `gs.keep(out, name=value)`
    `needs`            a dict: is the gradient of this argument needed?
    =================  =========================================================================================

    An op with several outputs names them (`outputs=("values", "indices")`); its formulas ask for `grad_values` and
    `values`. A formula that is None says that the gradient is zero. An argument without a formula has no gradient:
    asking for it raises `MissingFormula`. Arguments and outputs may be lists, tuples, dicts and dataclasses of tensors;
    the formula of such an argument returns its gradients in the same structure.

    Args:
        forward: any callable of tensors and plain values. Autograd does not look into it.
        outputs: the names of its outputs, if it returns a tuple of several.
        residuals: names that it passes to `keep`, where they cannot be read from its code.
        once: the gradients may not be differentiated again; to ask for that is an error by every route.
        cast: under autocast, cast floating-point arguments to its dtype ("inputs") or to "float32", and run without
            autocast. By default the forward runs under autocast as it is, and so does its backward.
        formulas: argument name = formula, or None for zero.

    Raises:
        DefinitionError: for a formula of an unknown argument, or one that asks for an unknown name.

    Complex arguments follow torch's convention: the formula gets the conjugate cogradient, and for a holomorphic f
    returns `grad * f'(x).conj()`; see https://docs.pytorch.org/docs/stable/notes/autograd.html#autograd-for-complex-numbers.

    >>> import torch, gradsmith as gs
    >>> exp = gs.op(torch.exp, x=lambda grad, out: grad * out)
    >>> x = torch.tensor([0.0, 1.0], requires_grad=True)
    >>> torch.autograd.grad(exp(x).sum(), x)
    (tensor([1.0000, 2.7183]),)
    """
    options: dict[str, Any] = {"outputs": outputs, "residuals": residuals, "once": once, "cast": cast}
    if forward is None:
        return lambda function: Op(function, formulas, **options)
    return Op(forward, formulas, **options)
