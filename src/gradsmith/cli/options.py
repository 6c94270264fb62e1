"""What the user asked of every check."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """Codes to look for and to leave out, and what a Function may cost."""

    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    budget: float | None = None  # seconds a case
    jobs: int = 1  # Functions at a time
    memory: float | None = None  # GiB that checking one Function may take; most of what is free by default
