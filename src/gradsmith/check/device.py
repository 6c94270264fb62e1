"""Code that needs a device which this machine has not."""

from __future__ import annotations

import re

import torch

_NAMES = re.compile(r"\b(cuda|gpus?|nvidia|triton)\b", re.IGNORECASE)
ABSENT = "there is no CUDA device here"
ELSEWHERE = f"{ABSENT}: check it on a machine that has one"


def lacks_device(error: BaseException) -> bool:
    """Whether `error` speaks of a GPU, where there is none: torch's own words, a kernel's, or the author's."""
    return not torch.cuda.is_available() and _NAMES.search(str(error)) is not None
