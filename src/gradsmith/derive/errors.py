"""What `derive` cannot do, said with the function and the line that it cannot do it for."""

from __future__ import annotations

from gradsmith.define.errors import GradsmithError


class DeriveError(GradsmithError):
    """A forward that `derive` cannot trace or differentiate; the message names the operation and its line."""


class Unsupported(Exception):
    """Raised by a rule for options that it has no formula for. Never leaves this package: it becomes a DeriveError."""
