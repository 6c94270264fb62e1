"""One thread, which small tensors are quickest with, and the same random numbers in every run."""

import pytest
import torch

from gradsmith import native
from gradsmith.catalog import rows
from gradsmith.native import dispatch


@pytest.fixture(autouse=True, scope="module")
def _reproducible():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(params=["torch ops", "native"])
def backend(request, monkeypatch):
    """Both back ends, each taken at any size and in pieces of a few rows."""
    monkeypatch.setattr(rows, "_PIECE", 64)
    monkeypatch.setattr(rows, "_FEWEST_ROWS", 3)
    if request.param == "torch ops":
        with native.disabled():
            yield request.param
        return
    if not native.status().active:
        pytest.skip(f"no native kernels: {native.status().reason}")
    monkeypatch.setattr(dispatch, "SMALLEST", 0)
    yield request.param
