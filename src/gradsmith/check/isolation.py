"""Calling anybody's code: what it raises is caught, and no random number generator is left moved."""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

SEED = 20_000


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
    """Turn whatever the checked code raises, `sys.exit` included, into `Raised`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Raised:
        raise
    except (
        Exception,
        SystemExit,
    ) as error:  # The isolation boundary: the code is anybody's and may raise anything.
        raise Raised(stage, error) from error


@contextmanager
def seeded(seed: int = SEED) -> Iterator[None]:
    """Every global random number generator (torch, NumPy, Python) at a fixed state, and back as it was."""
    python, array = random.getstate(), np.random.get_state()
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(array)
