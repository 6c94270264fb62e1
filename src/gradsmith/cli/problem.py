"""What keeps a target from being run or checked, as the one clear line that the user reads."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path

from gradsmith.check.device import ABSENT, lacks_device

_NOT_THEIRS = (str(Path(__file__).parents[1]), sysconfig.get_path("stdlib"), "<frozen", "<string>")


class Problem(Exception):
    """A target that could not be run or checked; the message names the target and the cause."""


class Interrupted(Problem):
    """The user stopped the program; nothing else is to be started."""


def describe(error: BaseException) -> str:
    """`"ValueError: bad shape (train.py:12)"`: the error, the innermost line of the user's own code."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"SyntaxError: {error.msg} ({error.filename}:{error.lineno})"
    text = " ".join(str(error).split())
    line = type(error).__name__ + (f": {text}" if text else "")
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_users(frame.filename)]
    notes = [f"{frames[-1].filename}:{frames[-1].lineno}"] if frames else []
    notes += [ABSENT] if lacks_device(error) else []
    return f"{line} ({'; '.join(notes)})" if notes else line


def _is_users(file: str) -> bool:
    return not file.startswith(_NOT_THEIRS) and "site-packages" not in file
