"""Calling anybody's code: what it raises is caught, and no random number generator is left moved."""

from __future__ import annotations

import random
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch

from gradsmith.check.watch import Spent, Stopped, active

SEED = 20_000
_numpy: Any = np.random  # whose stubs do not know all of it
_ours = _numpy.MT19937()  # put in the place of NumPy's own: a tenth of the time of copying its state and back


class Raised(Exception):
    """The checked code raised: in `stage` ("forward", "backward", ...) with `error`."""

    def __init__(self, stage: str, error: BaseException) -> None:
        super().__init__(f"{stage} raises {type(error).__name__}: {first_line(error)}")
        self.stage = stage
        self.error = error


def first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0]


@contextmanager
def user_code(stage: str) -> Iterator[None]:
    """Turn whatever the checked code raises, `sys.exit` included, into `Raised`; so is not to return in time.

    Raises:
        Spent: the check has no time or memory left.
    """
    watch = active()
    try:
        with warnings.catch_warnings(), nullcontext() if watch is None else watch.over(stage):
            warnings.simplefilter("ignore")
            yield
    except (Raised, Spent, Stopped):
        raise
    except BaseException as error:  # The isolation boundary: the code is anybody's and may raise anything.
        if isinstance(error, KeyboardInterrupt) and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            raise  # the user's; where the signal is ignored it can only be the code's own
        if watch is not None and watch.settled and _out_of_memory(error):
            raise Spent(f"the {stage} needs more memory than there is: {first_line(error)}") from error
        raise Raised(stage, error) from error


def _out_of_memory(error: BaseException) -> bool:
    said = str(error).lower()
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "t allocate memory" in said


@contextmanager
def seeded(seed: int = SEED) -> Iterator[None]:
    """Every global random number generator (torch, NumPy, Python) at a fixed state, and back as it was."""
    python, array = random.getstate(), _numpy.get_bit_generator()
    with _torch_seeded(seed):
        random.seed(seed)
        _numpy.set_bit_generator(_ours if array is not _ours else _numpy.MT19937())
        _numpy.seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            _numpy.set_bit_generator(array)


@contextmanager
def _torch_seeded(seed: int) -> Iterator[None]:
    if torch.cuda.is_initialized() or torch.backends.mps.is_available():
        with torch.random.fork_rng(devices=list(range(torch.cuda.device_count()))):
            torch.manual_seed(seed)
            yield
        return
    # Not torch.manual_seed: where CUDA is not in use that keeps a traceback of each call, for later.
    state = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(state)
