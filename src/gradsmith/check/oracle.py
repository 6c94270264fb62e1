"""Oracles: where the trusted derivative comes from, and how well it is known.

1. float64 autodiff of a `reference`; 2. float64 autodiff of the Function's own forward, run with gradients
on (the *replay*); 4. central differences. A replay alone convicts nobody: a forward that detaches, sorts or
calls a kernel replays to something else than its derivative, and many of those have a right backward.
Differences decide.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import torch

from gradsmith.check._private import uses_setup_context
from gradsmith.check.case import Case
from gradsmith.check.difference import Estimate, ladder
from gradsmith.check.inputs import Tensors, spread_like
from gradsmith.check.isolation import SEED, Raised, seeded, user_code
from gradsmith.check.subject import Subject


class StandInContext(SimpleNamespace):
    """What a `forward` is given as `ctx` in a replay: takes everything, keeps nothing."""

    saved_tensors: tuple[Any, ...] = ()

    def save_for_backward(self, *tensors: Any) -> None:
        self.saved_tensors = tensors

    def save_for_forward(self, *tensors: Any) -> None:
        pass

    def mark_dirty(self, *tensors: Any) -> None:
        pass

    def mark_non_differentiable(self, *tensors: Any) -> None:
        pass

    def set_materialize_grads(self, value: bool) -> None:
        pass


def replay_of(case: Case) -> Callable[..., Any] | None:
    """The Function's forward as a plain function of the same arguments; None where there is no Function."""
    cls: Any = case.function_class
    if cls is None:
        return None
    if uses_setup_context(cls):
        forward: Callable[..., Any] = cls.forward
        return forward

    def forward_with_context(*args: Any, **kwargs: Any) -> Any:
        return cls.forward(StandInContext(needs_input_grad=case.needs_grad), *args, **kwargs)

    return forward_with_context


def autodiff(
    subject: Subject,
    function: Callable[..., Any],
    upstream: Sequence[torch.Tensor],
    *,
    create_graph: bool = False,
) -> Tensors:
    """The gradients of `function` by torch's own autodiff at the subject's point; None where nothing arrives.

    Raises:
        Raised: `function` cannot be run or differentiated, or its outputs do not match the Function's.
    """
    run = subject.forward(function=function, stage="replay")
    places = differentiable_places(subject)
    with user_code("replay"):
        pairs = [
            (run.outputs[place], up)
            for place, up in zip(places, upstream, strict=True)
            if isinstance(run.outputs[place], torch.Tensor) and run.outputs[place].requires_grad
        ]
        for out, up in pairs:
            if out.shape != up.shape:
                raise ValueError(f"an output of shape {list(out.shape)} where the Function's has {list(up.shape)}")
        wanted = [leaf for leaf in run.leaves if leaf is not None]
        if not pairs:
            return tuple(None for _ in run.leaves)
        with seeded():
            found = iter(
                torch.autograd.grad(
                    [out for out, _ in pairs],
                    wanted,
                    [up.to(out.dtype) for out, up in pairs],
                    allow_unused=True,
                    create_graph=create_graph,
                )
            )
    return tuple(None if leaf is None else next(found) for leaf in run.leaves)


def operations(subject: Subject) -> int:
    """How many operations the replayed forward records."""
    replay = replay_of(subject.case)
    if replay is None:
        return 0
    run = subject.forward(function=replay, stage="replay")
    seen: set[Any] = set()
    todo = [out.grad_fn for out in run.differentiable]
    while todo:
        node = todo.pop()
        if node is not None and node not in seen:
            seen.add(node)
            todo += [parent for parent, _ in node.next_functions]
    return len(seen)


def differentiable_places(subject: Subject) -> tuple[int, ...]:
    """Where among the outputs those stand that carry a gradient."""
    outputs = subject.base.outputs
    return tuple(i for i, out in enumerate(outputs) if isinstance(out, torch.Tensor) and out.requires_grad)


def step_sizes(value: torch.Tensor) -> torch.Tensor:
    """How far each element may be moved in one unit of step: its own size, or a tenth of what is usual
    around it."""
    size = value.detach().abs().to(torch.float64)
    usual = float(size.square().mean().sqrt()) if size.numel() else 0.0
    return size.clamp_min(0.1 * usual) if usual > 0 else torch.ones_like(size)


def random_direction(value: torch.Tensor, which: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(SEED + 1000 + which)
    return spread_like(value, generator) * step_sizes(value).to(value.real.dtype)


def inner(left: torch.Tensor, right: torch.Tensor) -> float:
    """The real inner product, accumulated in float64; torch's gradients pair with directions this way,
    complex too."""
    left, right = left.detach(), right.detach()
    if left.is_complex() or right.is_complex():
        return float((left.to(torch.complex128).conj() * right.to(torch.complex128)).real.sum())
    return float((left.to(torch.float64) * right.to(torch.float64)).sum())


def slope(
    subject: Subject,
    position: int,
    direction: torch.Tensor,
    upstream: Sequence[torch.Tensor],
    *,
    accuracy: float = 0.0,
    stretch: float = 1.0,
) -> Estimate:
    """d/dh of <upstream, f(.. x + h * direction ..)> for the argument at `position`, by differences.

    `accuracy` is how well it needs to be known; `stretch` scales the ladder, for a second opinion.
    """
    places = differentiable_places(subject)
    needs = tuple(False for _ in subject.inputs)

    def outputs(inputs: tuple[Any, ...]) -> list[torch.Tensor]:
        run = subject.forward(inputs, needs=needs)
        return [run.outputs[place].detach() for place in places]

    return slope_of(outputs, subject, position, direction, upstream, accuracy=accuracy, stretch=stretch)


def slope_of(
    function: Callable[[tuple[Any, ...]], list[torch.Tensor]],
    subject: Subject,
    position: int,
    direction: torch.Tensor,
    weights: Sequence[torch.Tensor],
    *,
    accuracy: float = 0.0,
    stretch: float = 1.0,
    noise: float = 0.0,
) -> Estimate:
    """`slope`, for any `function` of the inputs that gives a list of tensors; `noise` is known of its weighted sum."""
    value = subject.inputs[position].detach()
    along = direction.to(value.dtype)

    def at(h: float) -> list[torch.Tensor]:
        moved = list(subject.inputs)
        moved[position] = torch.add(value, along, alpha=h)
        return function(tuple(moved))

    here = at(0.0)
    shapes = [out.shape for out in here]

    def change(h: float) -> tuple[float, float, float] | None:
        try:
            ahead, behind = at(h), at(-h)
        except Raised:
            return None
        if [out.shape for out in ahead] != shapes or [out.shape for out in behind] != shapes:
            return None
        right = left = bend = 0.0
        for weight, out, more, less in zip(weights, here, ahead, behind, strict=True):
            rise, fall = wide(more) - wide(out), wide(out) - wide(less)
            right += inner(weight, rise)
            left += inner(weight, fall)
            bend += float((wide(weight) * (rise - fall)).abs().sum())
        return right, left, bend

    noise = max(noise, 2 * subject.tolerance.eps * size_of(weights, here))
    return ladder(change, step=subject.tolerance.step * stretch, accuracy=accuracy, noise=noise)


def size_of(weights: Sequence[torch.Tensor], values: Sequence[torch.Tensor]) -> float:
    """The usual size of a weighted sum of `values`: what its rounding is relative to."""
    products = (wide(w.detach()) * wide(v.detach()) for w, v in zip(weights, values, strict=True))
    return float(sum(float(product.abs().square().sum()) for product in products) ** 0.5)


def wide(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to(torch.complex128 if tensor.is_complex() else torch.float64)
