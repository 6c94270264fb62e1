"""A forked child that checks one case and tells its parent of each question, before it is asked and after.

Forked, because cases hold classes of `__main__` and closures, which cannot be pickled. It runs in one thread, as
the threads of a parent do not come along in a fork, with its own standard streams and a limit of memory.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import re
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Collection
from dataclasses import dataclass
from typing import IO, Any

import torch

from gradsmith.check.battery import Question, examine
from gradsmith.check.case import Case
from gradsmith.check.watch import GRACE, watching
from gradsmith.cli.free_memory import free_memory
from gradsmith.cli.options import Options

STUCK = 77  # what a child exits with that has a call it cannot stop
SILENCE = 60.0  # seconds without a word between two questions
_FAULTHANDLER = (" ", "Thread 0x", "Current thread 0x", "Fatal Python error: ", "Extension modules: ")
_FRAME = re.compile(r'^  File "(.+)", line (\d+) in (\S+)$', re.MULTILINE)


def can_fork() -> bool:
    """Whether a child of this process can check anything: CUDA does not survive a fork, nor does much of macOS."""
    return "fork" in multiprocessing.get_all_start_methods() and sys.platform != "darwin" and not _uses_cuda()


def _uses_cuda() -> bool:
    return torch.cuda.is_available() and torch.cuda.is_initialized()


@dataclass(frozen=True)
class Death:
    """How a child ended without being done."""

    how: str  # "was killed by signal 11 (Segmentation fault)"
    last: str  # the last line that it wrote to standard error
    frames: tuple[tuple[str, int, str], ...]  # file, line and function, innermost first
    by_fork: bool  # it says itself that it cannot live in a fork


class Child:
    """Checks `case` without the questions in `answered`. Always to be ended with `kill`."""

    def __init__(self, case: Case, options: Options, answered: Collection[str]) -> None:
        context: Any = multiprocessing.get_context("fork")
        self.channel, sender = context.Pipe(duplex=False)
        self._said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  (lives as long as the child)
        self._process = context.Process(target=_main, args=(sender, self._said.fileno(), case, options, answered))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of threads that the program has left running: none of them is needed
            self._process.start()
        sender.close()
        self.ends = time.monotonic() + SILENCE  # when it must have said something
        self._hung = False

    def hear(self) -> Question | None:
        """What it says next; None when it has said everything.

        Raises:
            EOFError: it has died, or was ended because it kept silent for too long.
        """
        if not self.channel.poll():
            self._hung = True
            self._end(signal.SIGABRT)  # faulthandler then writes down where it is
            raise EOFError
        said: Question | None = self.channel.recv()
        seconds = 0.0 if said is None or said.answer is not None else said.seconds
        self.ends = time.monotonic() + SILENCE + seconds
        return said

    def death(self) -> Death:
        """What is known of its end, after `hear` has raised."""
        self._process.join(GRACE)
        status = self._process.exitcode
        self._said.seek(0)
        text = self._said.read().decode(errors="replace")
        lines = [line for line in text.splitlines() if line.strip() and not line.startswith(_FAULTHANDLER)]
        frames = tuple((file, int(line), name) for file, line, name in _FRAME.findall(text))
        how = how_it_ended(None if self._hung or status == STUCK else status)
        return Death(how, lines[-1] if lines else "", frames, "fork" in "".join(lines))

    def kill(self) -> None:
        """End it and everything that it has started."""
        self._end(signal.SIGKILL)
        self._process.join()
        self.channel.close()
        self._said.close()

    def _end(self, number: int) -> None:
        for kill in (os.killpg, os.kill):  # the group, once the child has made one
            try:
                kill(self._process.pid, number)
            except OSError:
                continue
            self._process.join(GRACE)
            return


def how_it_ended(status: int | None) -> str:
    """Of an exit status as Python has it, negative for a signal; None where it did not end by itself."""
    if status is None:
        return "hung and could not be stopped"
    if status < 0:
        return f"was killed by signal {-status} ({signal.strsignal(-status)})"
    return f"ended with status {status}"


def _main(sender: Any, said: int, case: Case, options: Options, answered: Collection[str]) -> None:
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's business
    torch.set_num_threads(1)
    _own_streams(said)
    _limit_memory(options)

    def stuck(stage: str) -> None:
        faulthandler.dump_traceback(said)
        os._exit(STUCK)

    with watching(stuck):
        questions = examine(
            case, only=options.only or None, skip=options.skip or None, budget=options.budget, without=answered
        )
        for question in questions:
            sender.send(question)
    sender.send(None)
    os._exit(0)  # the buffers and exit handlers are the parent's


def _own_streams(said: int) -> None:
    """Nothing to read, nothing to print, and errors to `said`: the code is called some hundred times."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor, target in ((0, nothing), (1, nothing), (2, said)):
        os.dup2(target, descriptor)
    sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
    faulthandler.enable(said)


def _limit_memory(options: Options) -> None:
    """Let what asks for too much be refused, and not the system run out."""
    import resource  # is where fork is

    free = free_memory()
    given = None if options.memory is None else int(options.memory * 2**30)
    allowed = given if given is not None else None if free is None else int(0.8 * free / options.jobs)
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")  # should it run out all the same, the child is to go
        with open("/proc/self/statm") as file:
            taken = int(file.read().split()[0]) * resource.getpagesize()
    except OSError:
        return
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    if allowed is not None:
        wanted = taken + allowed
        resource.setrlimit(resource.RLIMIT_AS, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))
