"""The examples in docstrings and guides run, and print what they say they print."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest
import torch

import gradsmith as gs

FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
GUIDES = sorted((Path(__file__).parents[1] / "docs").glob("*.md"))


MODULES = [module.name for module in pkgutil.walk_packages(gs.__path__, "gradsmith.") if "__main__" not in module.name]


def examples(name: str) -> list[doctest.DocTest]:
    """Those of a module: of its functions and classes, and of its ops, which doctest does not look at."""
    module = importlib.import_module(name)
    finder = doctest.DocTestFinder(exclude_empty=True)
    ops = {key: value for key, value in vars(module).items() if isinstance(value, gs.Op)}
    found = [test for test in finder.find(module) if test.examples]
    for key, value in ops.items():
        if value.forward.__module__ == name and value.__doc__:
            parser = doctest.DocTestParser()
            test = parser.get_doctest(value.__doc__, dict(vars(module)), f"{name}.{key}", module.__file__, 0)
            found += [test] if test.examples else []
    return found


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run(name: str) -> None:
    torch.manual_seed(0)
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    for example in examples(name):
        runner.run(example)
    assert runner.summarize(verbose=False).failed == 0


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.stem)
def test_the_examples_of_a_guide_run(guide: Path) -> None:
    torch.manual_seed(0)
    assert doctest.testfile(str(guide), module_relative=False, optionflags=FLAGS).failed == 0
