"""For your own tests: `assert_gradients`, and `inputs`, a Hypothesis strategy of what to call it with."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from gradsmith.check.battery import check
from gradsmith.check.layouts import layouts_of
from gradsmith.check.report.results import of_report
from gradsmith.check.report.text import render

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn, SearchStrategy


def assert_gradients(
    fn: Any,
    inputs: tuple[Any, ...] | torch.Tensor,
    kwargs: Mapping[str, Any] | None = None,
    *,
    reference: Callable[..., Any] | None = None,
    only: Collection[str] | str | None = None,
    skip: Collection[str] | str | None = None,
    budget: float | None = None,
    strict: bool = False,
) -> None:
    """Assert that the gradients of `fn` at `inputs` are right.

    Args:
        fn, inputs, kwargs, reference, only, skip, budget: as for `gradsmith.check`.
        strict: fail on warnings, too.

    Raises:
        AssertionError: a finding is an error (or with `strict` a warning); the message is the whole report.
        ValueError, TypeError: as `gradsmith.check`.

    Example:
        >>> import torch
        >>> assert_gradients(torch.sin, torch.randn(4, dtype=torch.float64, requires_grad=True))
    """
    __tracebackhide__ = True  # pytest then shows the line of the test
    report = check(fn, inputs, kwargs, reference=reference, only=only, skip=skip, budget=budget)
    if not report.ok or (strict and report.of("warning")):
        raise AssertionError("\n" + render(of_report(report), verbose=True))


def inputs(
    *shapes: str,
    sizes: tuple[int, int] = (1, 4),
    values: tuple[float, float] = (-2.0, 2.0),
    dtypes: Sequence[torch.dtype] = (torch.float64,),
    requires_grad: bool = True,
) -> SearchStrategy[tuple[torch.Tensor, ...]]:
    """A Hypothesis strategy of arguments: a tensor for each of `shapes`, in varied sizes, layouts and dtypes.

    Args:
        shapes: the dimensions of each tensor, separated by spaces. A name is a size that is drawn once for each example
            and the same in all of them, a number is that size, and a leading `...` stands for the same zero to two
            batch dimensions everywhere. `""` is a scalar.
        sizes: the smallest and the largest size of a name.
        values: between what the elements lie, evenly spread. Give a range in which the function is smooth.
        dtypes: one is drawn for each example, and all its tensors have it.
        requires_grad: whether they do.

    Raises:
        ModuleNotFoundError: Hypothesis is not installed.
        ValueError: a shape is neither names, numbers nor a leading `...`; a range is empty.

    Example:
        >>> import torch
        >>> from hypothesis import given, settings
        >>> @settings(max_examples=5, deadline=None)  # a check takes longer than Hypothesis allows an example
        ... @given(inputs("... n k", "m k", "m"))
        ... def test_linear(arguments):
        ...     assert_gradients(torch.nn.functional.linear, arguments)
        >>> test_linear()
    """
    from hypothesis import strategies  # an extra, and needed here alone

    if sizes[0] > sizes[1] or values[0] > values[1] or not dtypes:
        raise ValueError(f"nothing lies in sizes={sizes}, values={values}, dtypes={tuple(dtypes)}")
    parsed = tuple(map(_dimensions, shapes))
    size = strategies.integers(*sizes)

    @strategies.composite
    def arguments(draw: DrawFn) -> tuple[torch.Tensor, ...]:
        batch = tuple(draw(strategies.lists(size, max_size=2))) if any("..." in shape for shape in parsed) else ()
        names = {name for shape in parsed for name in shape if isinstance(name, str) and name != "..."}
        drawn: dict[str | int, int] = {name: draw(size) for name in sorted(names)}
        dtype = draw(strategies.sampled_from(list(dtypes)))
        generator = torch.Generator().manual_seed(draw(strategies.integers(0, 2**16)))
        found = []
        for shape in parsed:
            whole: list[str | int] = [*batch, *shape[1:]] if shape[:1] == ("...",) else list(shape)
            plain = torch.rand(
                [drawn[n] if isinstance(n, str) else n for n in whole], generator=generator, dtype=torch.float64
            )
            tensor = (values[0] + (values[1] - values[0]) * plain).to(dtype)
            lay_out = draw(strategies.sampled_from([torch.clone, *layouts_of([tensor]).values()]))
            found.append((lay_out(tensor) if tensor.numel() else tensor).requires_grad_(requires_grad))
        return tuple(found)

    return arguments()


@functools.cache
def _dimensions(shape: str) -> tuple[str | int, ...]:
    """`"... n 3"` as `("...", "n", 3)`."""
    words = shape.split()
    for place, word in enumerate(words):
        if not (word.isdigit() or word.isidentifier() or (word == "..." and place == 0)):
            raise ValueError(f"shape {shape!r}: {word!r} is neither a name, a number nor a leading '...'")
    return tuple(int(word) if word.isdigit() else word for word in words)
