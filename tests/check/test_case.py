"""Where the author wrote what is checked."""

from __future__ import annotations

import importlib.util
import os
import types

import pytest

from gradsmith.check.case import locate

SOURCE = """import torch


class Twice(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        return grad * 2
"""


def load(file, text, name="layers"):
    file.write_text(text)
    os.utime(file, (0, len(text)))  # another time for another text, whatever the clock resolves
    spec = importlib.util.spec_from_file_location(name, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Twice


@pytest.mark.parametrize(
    ("what", "line", "text"),
    [
        (lambda cls: cls, 4, "class Twice(torch.autograd.Function):"),
        (lambda cls: cls.forward, 6, "def forward(ctx, x):"),
        (lambda cls: cls.backward, 11, "def backward(ctx, grad):"),
    ],
)
def test_a_class_and_its_methods_are_found_below_their_decorators(tmp_path, what, line, text):
    place = locate(what(load(tmp_path / "layers.py", SOURCE)))
    assert (place.file, place.line, place.text) == (str(tmp_path / "layers.py"), line, text)


def test_a_file_that_was_written_anew_is_read_anew(tmp_path):
    file = tmp_path / "layers.py"
    locate(load(file, SOURCE))
    later = load(file, f"# a line more\n{SOURCE}")
    assert (locate(later).line, locate(later.forward).text) == (5, "def forward(ctx, x):")


def test_a_class_without_methods_of_its_own_is_found_where_its_module_has_a_file():
    assert locate(Derived).text == "class Derived(dict):"


class Derived(dict):
    pass


def test_what_has_no_source_has_no_place():
    assert locate(None) is None
    assert locate(len) is None


def test_an_object_that_holds_a_function_is_no_class_to_be_found():
    held = types.SimpleNamespace(hook=load)
    assert locate(held) is None
