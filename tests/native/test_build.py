"""The library is built once for each version of what goes into it."""

import os
import platform
import subprocess
import sysconfig

import pytest
import torch
from torch.utils import cpp_extension

from gradsmith.native import build


def test_it_lies_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("GRADSMITH_CACHE", str(tmp_path))
    assert build.cached_library().parent.parent == tmp_path
    monkeypatch.delenv("GRADSMITH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert build.cached_library().is_relative_to(tmp_path / "gradsmith" / "native")


def test_other_flags_sources_torch_or_compiler_have_another_library(monkeypatch, tmp_path):
    keys = {build.cached_library()}
    with monkeypatch.context() as changed:
        changed.setattr(torch, "__version__", "9.9.9")
        keys.add(build.cached_library())
    with monkeypatch.context() as changed:
        changed.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
        keys.add(build.cached_library())
        changed.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
        keys.add(build.cached_library())
    with monkeypatch.context() as changed:
        changed.setenv("CXX", "another-compiler")
        keys.add(build.cached_library())
    with monkeypatch.context() as changed:
        (tmp_path / "other.cpp").write_text("int x;")
        changed.setattr(build, "SOURCES", tmp_path)
        keys.add(build.cached_library())
    assert len(keys) >= 5  # the machine's own capability is one of the two that were tried
    assert build.cached_library() in keys


def test_no_flag_changes_the_meaning_of_nan_and_infinity():
    assert not {"-ffast-math", "-Ofast", "-ffinite-math-only", "-march=native"} & set(build.flags())


@pytest.mark.slow
@pytest.mark.skipif(build.missing_tool() is not None, reason="nothing to compile with")
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="vector instructions of another kind")
@pytest.mark.parametrize("capability", ["DEFAULT", "AVX2", "AVX512"])
@pytest.mark.parametrize("source", sorted(path.name for path in build.SOURCES.glob("*.cpp")))
def test_the_sources_fit_torchs_headers_on_every_kind_of_processor(monkeypatch, capability, source):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    headers = [*cpp_extension.include_paths(), sysconfig.get_path("include")]
    options = ["-std=c++20", "-fsyntax-only", *build.flags(), *(f"-I{folder}" for folder in headers)]
    compiler = os.environ.get("CXX", "c++")
    result = subprocess.run([compiler, *options, str(build.SOURCES / source)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]


def test_a_missing_tool_is_named(monkeypatch):
    with monkeypatch.context() as changed:
        changed.setattr(build.shutil, "which", lambda name: None)
        assert "no C++ compiler" in build.missing_tool()
    with monkeypatch.context() as changed:
        changed.setattr(build, "_ninja_folder", lambda: None)
        changed.setattr(build.shutil, "which", lambda name: "/usr/bin/c++")
        assert "pip install 'gradsmith[native]'" in build.missing_tool()


def test_a_library_that_is_there_is_not_built_again(monkeypatch, tmp_path):
    monkeypatch.setenv("GRADSMITH_CACHE", str(tmp_path))
    library = build.cached_library()
    library.parent.mkdir(parents=True)
    library.touch()
    monkeypatch.setattr(build, "_compile", None)
    assert build.build() == library


def test_what_the_compiler_says_is_kept_and_it_is_not_asked_again(monkeypatch, tmp_path):
    monkeypatch.setenv("GRADSMITH_CACHE", str(tmp_path))
    calls = []

    def refuse(folder):
        calls.append(folder)
        raise RuntimeError("Error building extension: vectors.h:1: no such thing")

    monkeypatch.setattr(build, "_compile", refuse)
    with pytest.raises(build.BuildError, match="no such thing"):
        build.build()
    with pytest.raises(build.BuildError, match="delete it to try again"):
        build.build()
    assert len(calls) == 1
    (log,) = tmp_path.rglob("*.failed.txt")
    assert "no such thing" in log.read_text()
    log.unlink()
    with pytest.raises(build.BuildError, match="no such thing"):
        build.build()
