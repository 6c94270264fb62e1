"""One thread, which small tensors are quickest with, and the same random numbers in every run."""

import pytest
import torch


@pytest.fixture(autouse=True, scope="module")
def _reproducible():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)
