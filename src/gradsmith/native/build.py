"""Compile the C++ sources into a library in the user's cache, once for each version of what goes into it."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import torch

SOURCES = Path(__file__).parent / "cpp"
LIBRARY = "gradsmith_native"

# NaN and infinities keep their meaning: nothing of -ffast-math but what changes no result.
_FLAGS = ["-O3", "-fopenmp", "-fno-math-errno", "-fno-trapping-math", "-Wno-unknown-pragmas"]
_BY_CAPABILITY = {
    "AVX2": ["-DCPU_CAPABILITY_AVX2", "-mavx2", "-mfma", "-mf16c"],
    "AVX512": ["-DCPU_CAPABILITY_AVX512", "-mfma", "-mf16c", *(f"-mavx512{part}" for part in ("f", "bw", "vl", "dq"))],
}


class BuildError(RuntimeError):
    """The sources did not compile; the message holds the end of what the compiler said."""


def flags() -> list[str]:
    """What the compiler is told: the vector instructions that torch itself uses on this machine, and no others.

    Not -march=native: a cache may be shared by machines of different kinds.
    """
    return _FLAGS + _BY_CAPABILITY.get(torch.backends.cpu.get_cpu_capability(), [])


def missing_tool() -> str | None:
    """What is not there that a build needs; None where everything is."""
    if not any(shutil.which(name) for name in (os.environ.get("CXX", "c++"), "g++", "clang++")):
        return "there is no C++ compiler (c++, or what CXX names)"
    if _ninja_folder() is None:
        return "there is no ninja (pip install 'gradsmith[native]')"
    return None


def cached_library() -> Path:
    """Where the library is once it is built: another place for other sources, flags, torch or compiler."""
    return _cache() / _key() / f"{LIBRARY}.so"


def build() -> Path:
    """Compile, unless that was done before. Raises BuildError where the compiler refuses.

    Several processes may ask at once: one compiles and the others wait for it. A failure is remembered beside the
    library, so that not every process tries again.
    """
    library = cached_library()
    if library.exists():
        return library
    library.parent.mkdir(parents=True, exist_ok=True)
    failure = library.with_suffix(".failed.txt")
    with _only_one(library.with_suffix(".lock")):
        if library.exists():
            return library
        if failure.exists():
            raise BuildError(f"an earlier build failed: see {failure}, and delete it to try again")
        try:
            with tempfile.TemporaryDirectory(dir=library.parent) as folder:
                os.replace(_compile(Path(folder)), library)
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:  # what cpp_extension raises for a compiler
            failure.write_text(str(error), encoding="utf-8")
            raise BuildError(f"the compiler refused ({failure} has all of it): {str(error)[-600:]}") from error
    return library


def _compile(folder: Path) -> Path:
    """Run torch's extension builder; it also loads the library, whose file may then be moved."""
    from torch.utils import cpp_extension

    with _on_path(_ninja_folder()):
        cpp_extension.load(
            LIBRARY,
            sorted(str(source) for source in SOURCES.glob("*.cpp")),
            extra_cflags=flags(),
            build_directory=str(folder),
            is_python_module=False,
        )
    return folder / f"{LIBRARY}.so"


def _key() -> str:
    digest = hashlib.sha256()
    for source in sorted(SOURCES.glob("*")):
        digest.update(source.name.encode() + source.read_bytes())
    digest.update(repr((torch.__version__, torch.version.git_version, flags(), os.environ.get("CXX"))).encode())
    return digest.hexdigest()[:16]


def _cache() -> Path:
    base = os.environ.get("GRADSMITH_CACHE")
    if base is not None:
        return Path(base)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gradsmith" / "native"


def _ninja_folder() -> str | None:
    """The folder of the ninja program: on the path, or in the package of that name."""
    found = shutil.which("ninja")
    if found is not None:
        return str(Path(found).parent)
    if find_spec("ninja") is None:
        return None
    import ninja

    return str(ninja.BIN_DIR)


@contextmanager
def _on_path(folder: str | None) -> Iterator[None]:
    before = os.environ.get("PATH", "")
    os.environ["PATH"] = before if folder is None else os.pathsep.join([before, folder])
    try:
        yield
    finally:
        os.environ["PATH"] = before


@contextmanager
def _only_one(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield  # closing the file gives the lock back
