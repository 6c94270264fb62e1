"""One thread, which small tensors are quickest with, and the same random numbers in every run."""

import pytest
import torch

from gradsmith import native
from gradsmith.catalog import cross_entropy_fused, rows
from gradsmith.native import dispatch


@pytest.fixture(autouse=True, scope="module")
def _reproducible():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def at_any_size(monkeypatch):
    """Few elements are treated as many are: in pieces of a few rows, and with the gradient in the forward."""
    monkeypatch.setattr(rows, "_PIECE", 64)
    monkeypatch.setattr(rows, "_FEWEST_ROWS", 3)
    monkeypatch.setattr(cross_entropy_fused, "SMALLEST", 0)


@pytest.fixture(params=["torch ops", "native"])
def backend(request, monkeypatch, at_any_size):
    """Both back ends, each taken at any size."""
    if request.param == "torch ops":
        with native.disabled():
            yield request.param
        return
    if not native.status().active:
        pytest.skip(f"no native kernels: {native.status().reason}")
    monkeypatch.setattr(dispatch, "SMALLEST", 0)
    yield request.param
