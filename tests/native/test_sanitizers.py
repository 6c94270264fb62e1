"""The kernels' tests again, with the address and undefined-behaviour sanitizers looking on."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gradsmith.native import build

HERE = Path(__file__).parent
RUNTIMES = (
    "libasan.so",
    "libubsan.so",
    "libstdc++.so.6",
)  # the last for exceptions, which the first catches on its way

# A row of 1024 elements said to have 4096, and targets that do not lie where integers may.
TOO_LONG = "logsumexp(torch.from_numpy(np.lib.stride_tricks.as_strided(np.ones(1024, np.float32), (1, 4096))))"
ASKEW = (
    "cross_entropy(torch.zeros(2, 5), torch.from_numpy(np.frombuffer(bytearray(17), np.int64, 2, offset=1)), None, "
    "-100, 0.0, 0.0, 0.0)"
)


@pytest.fixture(scope="module")
def sanitized():
    """Run Python with the sanitizers loaded; skipped where there are none."""
    missing = None if sys.platform.startswith("linux") else "the kernels are built on Linux"
    missing = missing or build.missing_tool()
    if missing:
        pytest.skip(missing)
    compiler = next(filter(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++")))
    libraries = [_file(compiler, name) for name in RUNTIMES]
    if None in libraries:
        pytest.skip(f"{compiler} comes without {RUNTIMES[libraries.index(None)]}")
    environment = {
        **os.environ,
        "LD_PRELOAD": ":".join(libraries),
        "ASAN_OPTIONS": "detect_leaks=0",  # Python's own
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path]),
        "OMP_NUM_THREADS": "2",
    }

    def run(*arguments):
        command = [sys.executable, *arguments]
        return subprocess.run(command, env=environment, cwd=HERE.parents[1], capture_output=True, text=True)

    probe = run("-c", "import torch")
    if probe.returncode:
        pytest.skip(f"Python does not start with the sanitizers: {probe.stderr[-300:]}")
    return run


def _file(compiler, name):
    """Where the compiler keeps a library, or None; it answers with the bare name for one that it has not."""
    path = subprocess.run([compiler, f"-print-file-name={name}"], capture_output=True, text=True, check=True).stdout
    return path.strip() if os.path.isabs(path) else None


@pytest.mark.slow
@pytest.mark.parametrize(("call", "complaint"), [(TOO_LONG, "heap-buffer-overflow"), (ASKEW, "misaligned address")])
def test_they_see_a_kernel_that_reads_where_it_must_not(sanitized, call, complaint):
    code = (
        "import sanitized, torch, numpy as np; from gradsmith import native\n"
        f"assert native.status().active; torch.ops.gradsmith_native.{call}"
    )
    result = sanitized("-W", "ignore", "-c", code)
    assert result.returncode != 0
    assert complaint in result.stderr


@pytest.mark.slow
def test_the_kernels_read_and_write_nothing_else_and_rely_on_nothing_undefined(sanitized):
    tests = sorted(str(path) for path in HERE.glob("test_*kernel*.py"))
    result = sanitized("-m", "pytest", "-x", "-p", "sanitized", "-p", "no:randomly", "-rs", *tests)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-4000:]
    assert " skipped" not in result.stdout
