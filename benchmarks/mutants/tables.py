"""The tables of a run, and the list of those that got away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from benchmarks.mutants.effect import UNCHANGED
from benchmarks.mutants.trial import Trial
from rich.console import Console
from rich.markup import escape
from rich.table import Table


def by_outcome(trials: Sequence[Trial]) -> Table:
    """All that change the derivative, and all that do not."""
    table = Table("mutants", "number", "as it should be", "named", title="All", title_justify="left")
    changed = [trial for trial in trials if trial.changes]
    table.add_row("change the derivative or break it", *_shares(changed))
    for effect in UNCHANGED:
        those = [trial for trial in trials if trial.effect.name == effect]
        table.add_row(effect, str(len(those)), _share(those, lambda trial: trial.found), "")
    return table


def by_kind(trials: Sequence[Trial]) -> Table:
    """What was rewritten; only those that change the derivative."""
    table = Table(
        "rewritten", "number", "found", "named", "codes of the errors", title="By mutation", title_justify="left"
    )
    changed = [trial for trial in trials if trial.changes]
    for kind in sorted({trial.kind for trial in changed}):
        those = [trial for trial in changed if trial.kind == kind]
        codes = Counter(code for trial in those for code in {error[0] for error in trial.errors})
        table.add_row(kind, *_shares(those), ", ".join(f"{code} {count}" for code, count in codes.most_common()))
    return table


def by_effect(trials: Sequence[Trial]) -> Table:
    """What the mutation does, decided without gradsmith."""
    table = Table("effect", "number", "found", "named", title="By effect", title_justify="left")
    changed = [trial for trial in trials if trial.changes]
    for effect, _ in Counter(trial.effect.name for trial in changed).most_common():
        table.add_row(effect, *_shares([trial for trial in changed if trial.effect.name == effect]))
    return table


def _shares(trials: Sequence[Trial]) -> tuple[str, str, str]:
    return str(len(trials)), _share(trials, lambda trial: trial.found), _share(trials, lambda trial: trial.named)


def _share(trials: Sequence[Trial], holds: Callable[[Trial], bool]) -> str:
    if not trials:
        return "-"
    count = sum(map(holds, trials))
    return f"{count} ({100 * count / len(trials):.1f} %)"


def list_survivors(console: Console, trials: Sequence[Trial]) -> None:
    """Those that were not found, then those whose cause was not named."""
    for title, those in (
        ("not found", [trial for trial in trials if not trial.found]),
        ("found, not named", [trial for trial in trials if trial.changes and trial.found and not trial.named]),
    ):
        console.print(f"\n{title}: {len(those)}")
        for trial in those:
            effects = ", ".join(f"{argument or 'all'}: {effect}" for argument, effect in trial.effect.of)
            rewritten = f"[{trial.kind}] {trial.before}  ->  {trial.after}"
            console.print(escape(f"{trial.number:04} {trial.function} {rewritten}  ({effects})"), soft_wrap=True)
            for code, _, message, _ in trial.errors:
                console.print(escape(f"       {code}: {message}"), soft_wrap=True, highlight=False)
            if not trial.errors:
                console.print(escape(f"       only {', '.join(trial.softer) or 'nothing'}"), soft_wrap=True)
