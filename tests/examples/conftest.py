"""The examples as modules, run as a user runs them."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(autouse=True, scope="module")
def _reproducible():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def example():
    """Import an example by its name, without running it."""

    def load(name):
        spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def run():
    """Run `python EXAMPLE`, or with `check` `gradsmith check EXAMPLE --format json`."""

    def start(name, *, check=False):
        command = ["-c", "from gradsmith.cli import main; main()", "check", "--format", "json"] if check else []
        return subprocess.run(
            [sys.executable, *command, str(EXAMPLES / f"{name}.py")], capture_output=True, text=True, timeout=300
        )

    return start
