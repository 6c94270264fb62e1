"""A function told by its table of formulas, and the styles that make it callable."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

import gradsmith as gs
from gradsmith.define import tree
from gradsmith.define.keep import Constant, Kept


@dataclass(frozen=True)
class Told:
    """One function. Its formulas give three times the derivative, and so does its `oracle`, in plain torch."""

    forward: Callable[..., Any]
    formulas: Mapping[Any, Callable[..., Any] | None]  # argument, or tuple of arguments -> formula
    oracle: Callable[..., Any]
    shapes: tuple[tuple[int, ...], ...]
    call: Callable[..., Any] = lambda function, *tensors: function(*tensors)  # makes containers and keywords of tensors
    read: Callable[[Any], Any] = lambda result: result  # the outputs to differentiate
    options: Mapping[str, Any] = field(default_factory=dict)
    refused: type[Exception] | None = None  # what a second derivative raises

    def bind(self, function: Callable[..., Any]) -> Callable[..., tuple[torch.Tensor, ...]]:
        def run(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
            result = self.read(self.call(function, *tensors))
            return (result,) if isinstance(result, torch.Tensor) else tuple(result)

        return run

    def tensors(self) -> tuple[torch.Tensor, ...]:
        return tuple(values(shape, seed) for seed, shape in enumerate(self.shapes))


def values(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.rand(shape, dtype=torch.float64, generator=generator) - 0.9


def tripled(value: Any) -> Any:
    """Every tensor with its value, and three times its derivatives of every order."""
    return tree.map_leaves(
        lambda x: 3 * x - 2 * x.detach() if isinstance(x, torch.Tensor) and x.is_floating_point() else x, value
    )


def as_op(told: Told) -> Callable[..., Any]:
    single = {target: f for target, f in told.formulas.items() if isinstance(target, str)}
    op = gs.op(told.forward, **told.options, **single)
    for targets, formula in told.formulas.items():
        if targets not in single:
            op.vjp(*targets)(formula)
    return op


def as_class(told: Told) -> Callable[..., Any]:
    """The same table run by a forward and a backward on ctx, which save what the formulas ask for and all else."""
    signature = inspect.signature(told.forward)
    outputs = told.options.get("outputs", ("out",))

    def forward(ctx: Any, *args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        result = told.forward(*bound.args, **bound.kwargs)
        out, kept = (result.out, result.residuals) if isinstance(result, Kept) else (result, {})
        kept = {name: r.value if isinstance(r, Constant) else r for name, r in kept.items()}
        known = {
            **bound.arguments,
            **dict(zip(outputs, out if isinstance(out, tuple) else (out,), strict=True)),
            **kept,
        }
        known = {name: value for name, value in known.items() if name in asked}
        leaves: list[Any] = []
        structure = tree.flatten(known, leaves)
        ctx.save_for_backward(*[leaf for leaf in leaves if isinstance(leaf, torch.Tensor)])
        plain = [None if isinstance(leaf, torch.Tensor) else (leaf,) for leaf in leaves]
        ctx.rebuild = lambda tensors: rebuild(structure, plain, tensors)
        ctx.shapes = {f"{n}_shape": v.shape for n, v in bound.arguments.items() if isinstance(v, torch.Tensor)}
        if len(outputs) > 1:
            ctx.mark_non_differentiable(*[o for o in out if o is not None and not o.is_floating_point()])
        return out

    def backward(ctx: Any, *grads: Any) -> Any:
        names = ["grad"] if outputs == ("out",) else [f"grad_{name}" for name in outputs]
        known = {**ctx.rebuild(ctx.saved_tensors), **ctx.shapes, **dict(zip(names, grads, strict=True))}
        known["needs"] = needs = dict(zip(signature.parameters, ctx.needs_input_grad, strict=True))
        result: dict[str, Any] = {}
        for target, formula in told.formulas.items():
            targets = (target,) if isinstance(target, str) else target
            if formula is not None and any(needs[name] for name in targets):
                got = formula(*[known[word] for word in inspect.signature(formula).parameters])
                result.update(zip(targets, got if len(targets) > 1 else (got,), strict=True))
        return tuple(result.get(name) for name in signature.parameters)

    asked = {word for f in told.formulas.values() if f for word in inspect.signature(f).parameters}
    ctx = inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_ONLY)
    parameters = list(signature.parameters.values())
    forward.__signature__ = signature.replace(parameters=[ctx, *parameters])  # type: ignore[attr-defined]
    if told.options.get("once"):
        backward = torch.autograd.function.once_differentiable(backward)
    body = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
    return type("Classic", (gs.Function,), body).apply  # type: ignore[attr-defined,no-any-return]


def rebuild(structure: Any, plain: list[Any], tensors: Any) -> Any:
    tensors = iter(tensors)
    return tree.unflatten(structure, iter([next(tensors) if leaf is None else leaf[0] for leaf in plain]))


def as_opaque(told: Told) -> Callable[..., Any]:
    """The forward runs where torch cannot see it."""
    count = len(told.options.get("outputs", ("out",)))
    opaque = gs.opaque(told.forward, outputs=count)
    hidden = inspect.signature(told.forward)

    def unseen(*args: Any) -> Any:
        arrays = [torch.from_numpy(a.numpy().copy()) if isinstance(a, torch.Tensor) else a for a in args]
        result = told.forward(*arrays)
        return tuple(out.numpy() for out in result) if count > 1 else result.numpy()

    unseen.__signature__ = hidden  # type: ignore[attr-defined]
    single = {target: f for target, f in told.formulas.items() if isinstance(target, str)}
    return gs.op(opaque(unseen), **told.options, **single)
