"""The script that comes with an error runs on plain torch and shows the fault."""

from __future__ import annotations

import contextlib
import gc
import io
import math
import re
from collections.abc import Iterator

import pytest
import torch
from registry import FAULTS, Planted, load

from gradsmith.check import check

load()
torch.set_num_threads(1)

RAISES = {"crash", "gradient-count", "gradient-shape", "edge-shape", "undefined-upstream", "not-repeatable"}
SHOWS = re.compile(r"^\d+ (?:double )?backward: (\S+) difference[^:]*: (\S+)$", re.MULTILINE)


@pytest.fixture(autouse=True)
def _collector_on_again() -> Iterator[None]:
    """A script that shows a leak switches the garbage collector off, for good."""
    yield
    gc.enable()


@pytest.mark.parametrize("planted", FAULTS, ids=lambda planted: f"{planted.codes[0]}-{planted.name}")
def test_script_runs_or_raises_what_it_shows(planted: Planted) -> None:
    for found in check(planted.function, planted.inputs()).of("error"):
        output = io.StringIO()
        try:
            with contextlib.redirect_stdout(output):
                exec(compile(found.reproduce, "reproduce.py", "exec"), {})
        except (Exception, SystemExit):
            assert found.code in RAISES or "raises" in found.message, found.reproduce
            continue
        assert output.getvalue() or found.code in RAISES, found.reproduce
        pairs = [(float(a), float(b)) for a, b in SHOWS.findall(output.getvalue())]
        if pairs:
            assert any(not math.isclose(a, b, rel_tol=1e-4, abs_tol=1e-12) for a, b in pairs), output.getvalue()
