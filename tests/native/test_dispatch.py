"""When the native kernels serve: never where a derivative, a batch or a trace could be asked of them."""

import os
import subprocess
import sys

import pytest
import torch

from gradsmith import native
from gradsmith.native import dispatch


def test_they_serve_plain_tensors_of_the_cpu(kernels):
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        assert native.kernels(torch.ones(3, dtype=dtype)) is kernels
    assert native.kernels(torch.nn.Parameter(torch.ones(3)).detach(), None) is kernels


def test_they_leave_other_dtypes_devices_and_subclasses_to_torch(kernels):
    class Other(torch.Tensor):
        pass

    assert native.kernels(torch.ones(3, dtype=torch.float64)) is None
    assert native.kernels(torch.ones(3, device="meta")) is None
    assert native.kernels(torch.ones(3).as_subclass(Other)) is None
    assert native.kernels(torch.ones(3), torch.ones(3, dtype=torch.float64)) is None


def test_they_leave_what_autograd_records_to_torch(kernels):
    x = torch.ones(3, requires_grad=True)
    assert native.kernels(x) is None
    with torch.no_grad():
        assert native.kernels(x) is kernels


def test_they_leave_transforms_and_forward_mode_to_torch(kernels):
    seen = []

    def look(x):
        seen.append(native.kernels(torch.ones(3)))
        return x.sum()

    torch.func.grad(look)(torch.ones(3))
    torch.func.vmap(look)(torch.ones(2, 3))
    with torch.autograd.forward_ad.dual_level():
        look(torch.ones(3))
    assert seen == [None, None, None]


def test_small_tensors_are_not_worth_a_call(active):
    assert native.kernels(torch.ones(dispatch.SMALLEST - 1)) is None
    assert native.kernels(torch.ones(dispatch.SMALLEST)) is not None


def test_they_can_be_switched_off_for_a_while(kernels):
    with native.disabled():
        with native.disabled():
            assert native.kernels(torch.ones(3)) is None
        assert native.kernels(torch.ones(3)) is None
    assert native.kernels(torch.ones(3)) is kernels


def in_a_process_of_its_own(code, **environment):
    return subprocess.run(
        [sys.executable, "-W", "always", "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )


ASK = "from gradsmith import native; import torch; print(native.status()); print(native.kernels(torch.ones(100_000)))"


def test_the_environment_switches_them_off():
    result = in_a_process_of_its_own(ASK, GRADSMITH_NATIVE="0")
    assert "Status(active=False, reason='switched off by GRADSMITH_NATIVE=0')" in result.stdout
    assert result.stdout.splitlines()[-1] == "None"
    assert result.stderr == ""


def test_another_value_in_the_environment_is_named(active):
    result = in_a_process_of_its_own(ASK, GRADSMITH_NATIVE="off")
    assert "GRADSMITH_NATIVE='off' is neither 0 nor 1" in result.stderr
    assert "Status(active=True" in result.stdout


def test_nothing_is_built_at_import_or_for_small_tensors(tmp_path):
    code = (
        "import torch, gradsmith.catalog as c; x = torch.ones(2, 8, requires_grad=True); "
        "c.rms_norm(x, (8,)).sum().backward(); "
        "from gradsmith.native import dispatch; print(dispatch._state)"
    )
    result = in_a_process_of_its_own(code, GRADSMITH_CACHE=str(tmp_path))
    assert result.stdout.strip() == "None"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_failed_build_is_one_warning_and_torch_ops_go_on(tmp_path, active):
    compiler = tmp_path / "broken-compiler"
    compiler.write_text("#!/bin/sh\necho 'cannot compile today' >&2\nexit 1\n")
    compiler.chmod(0o755)
    code = (
        "import torch, gradsmith.catalog as c; x = torch.ones(100, 1000, requires_grad=True)\n"
        "for _ in range(3): c.rms_norm(x, (1000,)).sum().backward()\n"
        "print(x.grad.isfinite().all())"
    )
    for _ in range(2):  # the second process does not try again, and says so
        result = in_a_process_of_its_own(code, GRADSMITH_CACHE=str(tmp_path / "cache"), CXX=str(compiler))
        assert result.stderr.count("gradsmith's native kernels are not available") == 1
        assert "tensor(True)" in result.stdout
    assert "an earlier build failed" in result.stderr
    assert "delete it to try again" in result.stderr
