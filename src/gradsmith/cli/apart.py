"""Work in a process of its own: what takes that process with it costs nothing else."""

from __future__ import annotations

import atexit
import multiprocessing.connection
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn, TypeVar

from gradsmith.cli.child import how_it_ended

Result = TypeVar("Result")
HANDED_ON = (signal.SIGINT, signal.SIGTERM)
LOOK = 0.1  # seconds between two looks at whether it still lives


class Died(Exception):
    """The process ended before the work was done; the message says how: "was killed by signal 9 (Killed)"."""


def apart(work: Callable[[], Result]) -> Result:
    """What `work` gives, done in a fork of this process that has its streams, its terminal and its signals.

    Raises:
        Died: it has ended the process instead.
    """
    reader, writer = multiprocessing.connection.Pipe(duplex=False)
    sys.stdout.flush()
    sys.stderr.flush()
    with reader, _signals_handed_on() as receiver:
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, HANDED_ON)  # what the fork is sent waits for its own handlers
        pid = os.fork()
        if pid == 0:
            receiver.restore()
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            reader.close()
            _work(work, writer)
        writer.close()
        receiver.is_there(pid)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return _hear(reader, pid)  # type: ignore[no-any-return]


def _work(work: Callable[[], Any], writer: Any) -> NoReturn:
    status = 1
    atexit._clear()  # those of the process that it was forked from
    try:
        writer.send(work())
        status = 0
        atexit._run_exitfuncs()  # the program's own; `os._exit` leaves them out
    except BaseException:  # The end of this process: whatever it is, it must not go on as the one it was forked from.
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status)


def _hear(reader: Any, pid: int) -> Any:
    """The answer, or how it died; the pipe alone does not tell, as what the program has started may hold it open."""
    status = None
    while True:
        if reader.poll(LOOK if status is None else 0):
            try:
                answer = reader.recv()
            except EOFError:
                status = os.waitpid(pid, 0)[1] if status is None else status
                break
            if status is None:
                os.waitpid(pid, 0)
            return answer
        if status is not None:
            break
        done, found = os.waitpid(pid, os.WNOHANG)
        status = found if done else None
    raise Died(how_it_ended(os.waitstatus_to_exitcode(status)))


class _Receiver:
    """Who gets the signals that are sent to this process alone: the other, and until it is there they are kept.

    An interruption, which a terminal sends to both, is left to the other.
    """

    def __init__(self) -> None:
        self.pid: int | None = None
        self.kept: list[int] = []
        terminal = any(os.isatty(stream) for stream in (0, 2))
        chosen: dict[int, Any] = {signal.SIGINT: signal.SIG_IGN if terminal else self.take, signal.SIGTERM: self.take}
        self.before = {number: signal.signal(number, handler) for number, handler in chosen.items()}

    def take(self, number: int, _: Any) -> None:
        if self.pid is None:
            self.kept.append(number)
            return
        with suppress(ProcessLookupError):  # it has just ended
            os.kill(self.pid, number)

    def is_there(self, pid: int) -> None:
        self.pid = pid
        for number in self.kept:
            self.take(number, None)

    def restore(self) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)


@contextmanager
def _signals_handed_on() -> Iterator[_Receiver]:
    """In place before the fork: masking them would not do, as any other thread of this process may be sent them."""
    receiver = _Receiver()
    try:
        yield receiver
    finally:
        receiver.restore()
