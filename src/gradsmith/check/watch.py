"""A watch over the calls of anybody's code: one that does not return is stopped.

A thread raises an exception in the thread that it watches, as soon as that runs Python code again. C code that
never comes back cannot be stopped so: only a process that can be killed helps there, and `stuck` is told.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

FIRST = 60.0  # seconds that the first forward and the first backward may take, each
CHECK = 60.0  # seconds that one check may take
PASSES = 100  # or as long as a call that takes so many times what the first forward and backward took
CALLS = 3  # so many calls that do not return end the check, too
TICK = 0.2  # how often the watch looks
GRACE = 5.0  # seconds after which a call that was told to stop counts as stuck


class Spent(BaseException):
    """A check has used up its time or its memory: it ends, and the others go on. The message says which."""


class Overdue(TimeoutError):
    """A call has not returned in time."""


class Stopped(BaseException):
    """Raised inside a call that has not returned in time, to end it."""


@dataclass(eq=False)
class _Call:
    stage: str
    began: float
    ends: float
    last_told: float | None = None  # when it was last told to stop


class Watch:
    """Watches the calls that one thread makes; made by `watching`.

    `settled` is True once the case itself has run forward and backward: from then on, memory that runs out is
    what a variation needs, and no fault of the Function.
    """

    def __init__(self, stuck: Callable[[str], None] | None) -> None:
        self.settled = False
        self._stuck = stuck
        self._thread = threading.get_ident()
        self._lock = threading.Lock()
        self._call: _Call | None = None
        self._pass = 0.0  # seconds of a forward and a backward at the point
        self._patience = FIRST
        self._check_ends = float("inf")
        self._why = ""

    def settle(self, seconds: float) -> None:
        """The case runs, and one forward and backward of it take so many seconds."""
        self.settled, self._pass = True, seconds

    def allow(self, ends: float, seconds: float | None = None) -> float:
        """Give the next check `seconds` (`CHECK` by default), but no more than until `ends`; returns how many."""
        if self._call is not None:  # its exception came so late that it was not seen to leave
            self._leave(self._call)
        now, least = time.monotonic(), CHECK if seconds is None else seconds
        if self.settled:
            self._patience = max(least / CALLS, PASSES * self._pass)
            most = CALLS * self._patience
        else:
            self._patience = max(FIRST, least)
            most = 2 * self._patience
        self._check_ends = min(ends, now + most)
        self._why = "budget spent" if ends <= now + most else f"not done after {most:.0f} s"
        return max(0.0, self._check_ends - now)

    @contextmanager
    def over(self, stage: str) -> Iterator[None]:
        """Watch one call.

        Raises:
            Spent: the time of the check is over.
            Overdue: the call itself has not returned in time.
        """
        outer, now = self._call, time.monotonic()
        if now >= self._check_ends:
            raise Spent(self._why)
        call = outer or _Call(stage, now, min(now + self._patience, self._check_ends))
        self._call = call
        try:
            yield
        except Stopped as stopped:
            if outer is not None:
                raise
            self._leave(call)
            late = f"has not returned after {time.monotonic() - call.began:.0f} s"
            if time.monotonic() >= self._check_ends:
                raise Spent(f"{self._why}: the {stage} {late}") from None
            raise Overdue(f"it {late}").with_traceback(stopped.__traceback__) from None  # where it was
        finally:
            if outer is None:
                self._leave(call)

    def _leave(self, call: _Call) -> None:
        """The call is over, and so is its exception if that is still on its way.

        It is sent once more and caught here. Taking it back instead would leave CPython 3.11 looking for it for good,
        and under a profiler or a debugger no function would then get past its first instruction.
        """
        while True:
            try:
                with self._lock:
                    self._call = None
                if call.last_told is None:
                    return
                _raise_in(self._thread, Stopped)
                while True:
                    pass
            except Stopped:
                if self._call is None:  # nobody sends another
                    call.last_told = None

    def look(self) -> None:
        """Stop the running call if its time is over."""
        with self._lock:
            call, now = self._call, time.monotonic()
            if call is None or now < call.ends:
                return
            first, told = call.last_told is None, call.last_told or now
            if not first and now < told + GRACE:
                return
            call.last_told = now
            _raise_in(self._thread, Stopped)
        if not first and self._stuck is not None:
            self._stuck(call.stage)


def _raise_in(thread: int, kind: type[BaseException]) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(kind))


_here = threading.local()


def active() -> Watch | None:
    """The watch over this thread, if there is one."""
    watch: Watch | None = getattr(_here, "watch", None)
    return watch


@contextmanager
def watching(stuck: Callable[[str], None] | None = None) -> Iterator[Watch]:
    """Watch the calls that this thread makes meanwhile.

    Args:
        stuck: called, in another thread, with the stage of a call that does not even stop when told to.
    """
    outer, watch, done = active(), Watch(stuck), threading.Event()

    def look() -> None:
        while not done.wait(TICK):
            watch.look()

    threading.Thread(target=look, name="gradsmith watch", daemon=True).start()
    _here.watch = watch
    try:
        yield watch
    finally:
        _here.watch = outer
        done.set()
