"""What gradcheck, gradgradcheck, opcheck and gradsmith see of the faults planted in tests/faults.

    python benchmarks/faults_table.py [-j PROCESSES] [--timeout SECONDS] [--only CODE] [--misses]

Every planted fault and every clean twin is given to every checker, each time in a process of its own that is ended
after its time. A checker finds a fault if it raises, or, for gradsmith, reports an error or a warning; it names
the cause if it gives the code that the fault is planted under (and the argument, where one is planted). What is
found on a clean twin is a false alarm; so is a check that does not come back. The inputs are those of the register,
in float64 where they are floating and the Function takes it, as gradcheck asks. opcheck takes custom ops only: a
Function of tensors and numbers is registered as one, its `apply` at the Autograd key; others do not apply.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import resource
import sys
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

import gradsmith as gs

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "faults"))
from registry import CLEAN, FAULTS, Planted, load


@dataclass(frozen=True)
class Answer:
    """What one checker said of one Function."""

    applies: bool = True
    found: bool = False
    named: bool = False
    late: bool = False  # ended by the timeout, or gone without an answer
    seconds: float = 0.0


def double(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The inputs as gradcheck wants them: floating tensors in float64, requiring a gradient where they did."""

    def convert(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return type(value)(convert(item) for item in value)
        if isinstance(value, dict):
            return {key: convert(item) for key, item in value.items()}
        if not isinstance(value, torch.Tensor) or not (value.is_floating_point() or value.is_complex()):
            return value
        target = torch.complex128 if value.is_complex() else torch.float64
        return value.detach().to(target).requires_grad_(value.requires_grad)

    return tuple(convert(value) for value in inputs)


def taken(planted: Planted) -> tuple[Any, ...]:
    """The inputs in float64, or as given where the Function refuses that."""
    try:
        with torch.no_grad():
            planted.function.apply(*double(planted.inputs()))
    except Exception:
        return planted.inputs()
    return double(planted.inputs())


def raises(check: Callable[[], Any]) -> bool:
    try:
        check()
    except (Exception, SystemExit):
        return True
    return False


def gradcheck_slow(planted: Planted) -> Answer:
    return Answer(found=raises(lambda: torch.autograd.gradcheck(planted.function.apply, taken(planted))))


def gradcheck_fast(planted: Planted) -> Answer:
    inputs = taken(planted)
    return Answer(found=raises(lambda: torch.autograd.gradcheck(planted.function.apply, inputs, fast_mode=True)))


def gradgradcheck(planted: Planted) -> Answer:
    return Answer(found=raises(lambda: torch.autograd.gradgradcheck(planted.function.apply, taken(planted))))


def opcheck(planted: Planted) -> Answer:
    inputs = taken(planted)
    kinds = {torch.Tensor: "Tensor", float: "float", int: "int", bool: "bool"}
    if not all(type(value) in kinds for value in inputs):
        return Answer(applies=False)
    try:
        with torch.no_grad():
            out = planted.function.apply(*inputs)
    except Exception:
        return Answer(applies=False)
    outputs = out if isinstance(out, tuple) else (out,)
    if not all(isinstance(value, torch.Tensor) for value in outputs) or not any(v.requires_grad for v in inputs
                                                                               if isinstance(v, torch.Tensor)):
        return Answer(applies=False)  # fmt: skip
    op = _as_op(planted, [kinds[type(value)] for value in inputs], outputs)
    return Answer(found=raises(lambda: torch.library.opcheck(op, inputs)))


def _as_op(planted: Planted, kinds: list[str], outputs: tuple[torch.Tensor, ...]) -> Any:
    library = torch.library.Library("planted", "FRAGMENT")
    name = f"{planted.name.replace('.', '_')}_{len(KEPT)}"  # another one than when it warmed up
    returns = ", ".join("Tensor" for _ in outputs)
    arguments = ", ".join(f"{kind} a{place}" for place, kind in enumerate(kinds))
    library.define(f"{name}({arguments}) -> " + (returns if len(outputs) == 1 else f"({returns})"))

    def forward(*args: Any) -> Any:
        with torch.no_grad():
            return planted.function.apply(*args)

    def fake(*args: Any) -> Any:
        made = tuple(torch.empty_like(value) for value in outputs)
        return made[0] if len(made) == 1 else made

    library.impl(name, planted.function.apply, "Autograd")
    library.impl(name, forward, "CPU")
    library.impl(name, fake, "Meta")
    KEPT.append(library)
    return getattr(torch.ops.planted, name).default


KEPT: list[Any] = []


def gradsmith(planted: Planted) -> Answer:
    report = gs.check(planted.function, planted.inputs(), only=planted.only)
    loud = [found for found in report.findings if found.severity != "note" and found.code not in planted.also]
    right = [found for found in loud if found.code in planted.codes]
    arguments = [found.argument for found in right]
    return Answer(found=bool(loud), named=bool(right) and (planted.argument is None or planted.argument in arguments))


CHECKERS: dict[str, Callable[[Planted], Answer]] = {
    "gradcheck": gradcheck_slow,
    "gradcheck, fast": gradcheck_fast,
    "gradgradcheck": gradgradcheck,
    "opcheck": opcheck,
    "gradsmith": gradsmith,
}


def _work(checker: str, planted: Planted, timeout: float, pipe: Any) -> None:
    limit = int(timeout)
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))  # of the processor's time: a busy machine ends nothing
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        started = time.process_time()
        answer = CHECKERS[checker](planted)
        seconds = time.process_time() - started
    pipe.send(Answer(answer.applies, answer.found, answer.named, False, seconds))


def ask(checker: str, planted: Planted, timeout: float) -> Answer:
    """One checker on one Function, in a process of its own."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(checker, planted, timeout, there))
    process.start()
    there.close()
    try:
        answer = here.recv() if here.poll(20 * timeout) else None
    except EOFError:
        answer = None
    if answer is None:
        process.kill()
    process.join()
    return answer if isinstance(answer, Answer) else Answer(found=True, late=True, seconds=timeout)


def table(answers: dict[tuple[str, str], Answer], faults: Iterable[Planted], clean: Iterable[Planted]) -> Table:
    by_code: dict[str, list[Planted]] = defaultdict(list)
    for planted in faults:
        by_code[planted.codes[0]].append(planted)
    shown = Table("planted under", "faults", *CHECKERS, "cause named")

    def row(label: str, group: list[Planted]) -> None:
        cells = []
        for checker in CHECKERS:
            given = [answers[checker, planted.name] for planted in group]
            applying = [answer for answer in given if answer.applies]
            count = sum(answer.found and not answer.late for answer in applying)
            cells.append(str(count) if len(applying) == len(given) else f"{count} of {len(applying)}")
        named = sum(answers["gradsmith", planted.name].named for planted in group)
        shown.add_row(label, str(len(group)), *cells, str(named))

    for code, group in sorted(by_code.items()):
        row(f"`{code}`", group)
    everything, twins = [p for group in by_code.values() for p in group], list(clean)
    row("all faults", everything)
    false = [str(sum(a.found for p in twins if (a := answers[c, p.name]).applies)) for c in CHECKERS]
    shown.add_row("false alarms on clean twins", str(len(twins)), *false, "")
    late = [str(sum(answers[c, p.name].late for p in everything + twins)) for c in CHECKERS]
    shown.add_row("no answer in time", str(len(everything) + len(twins)), *late, "")
    seconds = [f"{sum(answers[c, p.name].seconds for p in everything + twins):.0f}" for c in CHECKERS]
    shown.add_row("seconds of CPU, all together", "", *seconds, "")
    return shown


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("-j", type=int, default=1, metavar="PROCESSES")
    parser.add_argument("--timeout", type=float, default=30.0, metavar="SECONDS", help="of CPU; 20 times that in all")
    parser.add_argument("--only", metavar="CODE", help="faults of one code alone, and no clean twins")
    parser.add_argument("--misses", action="store_true", help="list what gradsmith misses, misnames or alarms at")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    load()
    faults = [planted for planted in FAULTS if chosen.only in (None, planted.codes[0])]
    clean = [] if chosen.only else CLEAN
    for checker in CHECKERS.values():
        checker(CLEAN[0])  # what a checker imports is not part of its time
    work = [(checker, planted) for planted in [*faults, *clean] for checker in CHECKERS]
    with ThreadPoolExecutor(chosen.j) as pool:
        given = pool.map(lambda pair: ask(*pair, chosen.timeout), work)
        answers = {(checker, planted.name): answer for (checker, planted), answer in zip(work, given, strict=True)}
    console = Console(width=max(120, Console().width))
    console.print(table(answers, faults, clean))
    if chosen.misses:
        for planted in faults:
            if not answers["gradsmith", planted.name].named:
                console.print(f"not named: {planted.name} ({planted.codes[0]})")
        for planted in clean:
            if answers["gradsmith", planted.name].found:
                console.print(f"false alarm: {planted.name}")


if __name__ == "__main__":
    main()
