"""What can go wrong while a custom gradient is defined, called or differentiated."""

from __future__ import annotations


class GradsmithError(Exception):
    """The root of every error that gradsmith raises on purpose."""


class DefinitionError(GradsmithError, TypeError):
    """An op was written in a way that cannot work: an unknown name, a formula given twice, a wrong target."""


class CallError(GradsmithError, TypeError):
    """An op was called with arguments that its forward does not take, or with something it cannot track."""


class FormulaError(GradsmithError, RuntimeError):
    """A formula raised, or returned something that cannot be the gradient of its argument."""


class MissingFormula(GradsmithError, NotImplementedError):
    """The gradient of an argument was asked for, and the op has no formula for it."""


class SecondDerivativeError(GradsmithError, RuntimeError):
    """A derivative of a gradient was asked for that the op cannot give."""


class ContextWarning(UserWarning):
    """A classic Function keeps something on `ctx` where autograd cannot see it."""
