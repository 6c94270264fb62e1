"""Kernels used at any size, and skipped where they cannot be built; the same random numbers in every run."""

import pytest
import torch

from gradsmith import native
from gradsmith.native import dispatch


@pytest.fixture(autouse=True)
def _reproducible():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def active():
    status = native.status()
    if not status.active:
        pytest.skip(f"no native kernels: {status.reason}")


@pytest.fixture
def kernels(active, monkeypatch):
    """The native operators, with the smallest size at which an op takes them set to nothing."""
    monkeypatch.setattr(dispatch, "SMALLEST", 0)
    return torch.ops.gradsmith_native


@pytest.fixture
def threads():
    """Set the number of threads for one test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)
