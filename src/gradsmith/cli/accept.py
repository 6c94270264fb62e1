"""Everything that is accepted in a run: comments at Functions, pyproject.toml, a baseline file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gradsmith.check.report import Outcome
from gradsmith.cli import allow, baseline
from gradsmith.cli.work import Job


@dataclass
class Accepted:
    """The findings that do not fail the run. They stay in the report, under what was not looked at."""

    allowed: list[allow.Allowed] = field(default_factory=list)
    known: set[baseline.Key] = field(default_factory=set)
    file: Path | None = None  # the baseline

    @classmethod
    def of(cls, entries: list[dict[str, Any]], file: Path | None) -> Accepted:
        """What the settings and the baseline file accept.

        Raises:
            Problem: an entry lacks something, names an unknown code, or the file cannot be read.
        """
        return cls(allow.configured(entries), set() if file is None else baseline.read(file), file)

    def see(self, jobs: Iterable[Job]) -> None:
        """Read the comments at the Functions that are about to be checked; may raise `Problem`."""
        for job in jobs:
            self.allowed += allow.commented(job.cases[0])

    def apply(self, outcome: Outcome) -> Outcome:
        """The outcome without what is accepted."""
        outcome = allow.without(outcome, self.allowed)
        return outcome if self.file is None else baseline.without(outcome, self.known, self.file)
