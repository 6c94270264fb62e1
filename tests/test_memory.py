"""`gs.reuse_memory`: what it does to page faults, how it ends, and what it says where it can do nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings

import pytest

from gradsmith import memory
from gradsmith.memory import is_reusing_memory, reuse_memory

glibc = pytest.mark.skipif(memory.unavailable() is not None, reason="no glibc allocator here")

# Page faults while 64 MiB tensors come and go, after one of them was there: 16,384 pages each.
FAULTS = """
import resource, torch
def faults(size=2**24):
    torch.ones(size)
    counts = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(size)
        counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    return 4 * sorted(counts)[2]  # the median: a block that was split in between is no rule
torch.set_num_threads(1)
"""


def run(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if name != "GRADSMITH_REUSE_MEMORY"}
    command = [sys.executable, "-c", FAULTS + program]
    return subprocess.run(command, env=clean | environment, capture_output=True, text=True, check=True)


def numbers(program: str, **environment: str) -> list[int]:
    return [int(word) for word in run(program, **environment).stdout.split()]


@glibc
def test_freed_blocks_are_used_again_until_the_context_ends() -> None:
    stock, reused, after = numbers(
        "from gradsmith.memory import reuse_memory\n"
        "print(faults())\n"
        "with reuse_memory(): print(faults())\n"
        "print(faults(2**26))"  # larger than any block that stays in the heap because something lies above it
    )
    assert stock > 4 * 8000
    assert reused < 400
    assert after > 4 * 4 * 8000


@glibc
def test_undoing_returns_the_kept_memory_to_the_system() -> None:
    kept, returned = numbers(
        "from gradsmith.memory import reuse_memory\n"
        "def resident(): return int(open('/proc/self/statm').read().split()[1]) * 4096\n"
        "before = resident()\n"
        "reuse = reuse_memory()\n"
        "faults(); print(resident() - before)\n"
        "reuse.undo(); print(resident() - before)"
    )
    assert kept > 60 * 2**20
    assert returned < 20 * 2**20


@glibc
def test_the_environment_variable_switches_it_on_at_import() -> None:
    program = "import gradsmith.memory\nprint(faults(), int(gradsmith.memory.is_reusing_memory()))"
    assert numbers(program)[1] == 0
    faults, on = numbers(program, GRADSMITH_REUSE_MEMORY="1")
    assert on == 1
    assert faults < 400


def test_another_value_of_the_variable_is_refused_with_a_warning() -> None:
    result = run(
        "import gradsmith.memory\nprint(int(gradsmith.memory.is_reusing_memory()))", GRADSMITH_REUSE_MEMORY="yes"
    )
    assert "GRADSMITH_REUSE_MEMORY='yes' has no effect: it must be 1 or 0" in result.stderr
    assert result.stdout.strip() == "0"


@glibc
def test_holders_nest_and_the_last_one_ends_it() -> None:
    outer, inner = reuse_memory(), reuse_memory()
    outer.undo()
    assert is_reusing_memory()
    outer.undo()  # a second time does nothing
    assert is_reusing_memory()
    assert "active" in repr(inner)
    inner.undo()
    assert not is_reusing_memory()
    assert repr(inner) == "MemoryReuse(no effect: undone)"


@glibc
def test_an_exception_ends_it() -> None:
    with pytest.raises(ValueError, match="from the block"), reuse_memory():
        raise ValueError("from the block")
    assert not is_reusing_memory()


@pytest.mark.parametrize(
    ("platform", "reason"),
    [("darwin", "it is for Linux, and this is darwin"), ("win32", "it is for Linux, and this is win32")],
)
def test_elsewhere_it_is_a_no_op_that_says_so(platform: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    with pytest.warns(RuntimeWarning, match=reason):
        reuse = reuse_memory()
    assert not reuse.active
    assert repr(reuse) == f"MemoryReuse(no effect: {reason})"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reuse.undo()
    assert not is_reusing_memory()


@glibc
def test_another_allocator_makes_it_a_no_op(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_other_allocator", lambda: "jemalloc")
    with pytest.warns(RuntimeWarning, match="jemalloc is loaded in place of glibc's allocator"):
        assert not reuse_memory().active


@glibc
def test_a_refusal_by_the_c_library_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_set", lambda *_: False)
    with pytest.warns(RuntimeWarning, match="refuses the thresholds"):
        assert not reuse_memory().active
    assert not is_reusing_memory()
