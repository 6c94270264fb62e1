"""Mutants: correct Functions broken by rewriting one expression of their backward, and what `gs.check` says of each.

    python -m benchmarks.mutants [--limit N] [-j PROCESSES] [--only NAME] [--keep FOLDER]

Each mutant's effect is decided first, by float64 autodiff of a reference at five draws of inputs. Those that change
the derivative or break the backward must give an error (*found*), and that error must be of the code that the effect
calls for, with the right argument (*named*); those that change nothing must give none.
"""

from __future__ import annotations

import argparse
import functools
import json
import multiprocessing
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch
from benchmarks.mutants import corpus as corpus  # (fills SPECIMENS)
from benchmarks.mutants.rewrite import Mutation, mutations
from benchmarks.mutants.specimen import SPECIMENS
from benchmarks.mutants.tables import by_effect, by_kind, by_outcome, list_survivors
from benchmarks.mutants.trial import Trial, try_out
from rich.console import Console
from rich.progress import track

Job = tuple[int, str, Mutation]


def jobs(limit: int | None = None, only: str | None = None) -> list[Job]:
    """Every mutant, numbered; with a limit, as many spread evenly over all."""
    every = [
        (specimen.name, mutation)
        for specimen in sorted(SPECIMENS, key=lambda specimen: specimen.name)
        for mutation in mutations(specimen.function)
    ]
    numbered = [(number, *job) for number, job in enumerate(every) if only in (None, job[0])]
    if limit is None or limit >= len(numbered):
        return numbered
    return [numbered[i * len(numbered) // limit] for i in range(limit)]


def run(job: Job, folder: Path) -> Trial:
    number, name, mutation = job
    specimen = next(s for s in SPECIMENS if s.name == name)
    return try_out(number, specimen, mutation, folder)


def run_all(chosen: list[Job], processes: int, folder: Path) -> Iterator[Trial]:
    work = functools.partial(run, folder=folder)
    if processes == 1:
        yield from map(work, chosen)
        return
    with multiprocessing.get_context("fork").Pool(processes, torch.set_num_threads, (1,)) as pool:
        yield from pool.imap(work, chosen, chunksize=4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, help="try so many mutants, spread evenly over all")
    parser.add_argument("--only", metavar="NAME", help="the mutants of one Function")
    parser.add_argument("-j", dest="processes", type=int, default=1, help="how many processes")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="write the mutants, and trials.json, here")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    console = Console()
    chosen = jobs(arguments.limit, arguments.only)
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        trials = list(
            track(run_all(chosen, arguments.processes, folder), "mutants", len(chosen), console=Console(stderr=True))
        )
        if arguments.keep:
            (folder / "trials.json").write_text(json.dumps([asdict(trial) for trial in trials], indent=1))
    functions = {trial.function for trial in trials}
    console.print(f"{len(trials)} mutants of {len(functions)} Functions (seeds fixed, torch {torch.__version__})\n")
    for table in (by_outcome(trials), by_kind(trials), by_effect(trials)):
        console.print(table)
    list_survivors(console, trials)


if __name__ == "__main__":
    main()
