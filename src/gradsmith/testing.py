"""For your own tests: `assert_gradients`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch

from gradsmith.check.battery import check
from gradsmith.check.report.results import of_report
from gradsmith.check.report.text import render


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
