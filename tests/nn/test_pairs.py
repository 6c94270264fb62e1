"""The modules of gradsmith.nn over two vectors: constructor, state, values and gradients of torch's."""

import inspect

import pytest
import torch
from twins import made

from gradsmith import nn

CASES = [
    ("Bilinear", (4, 3, 2), {}),
    ("Bilinear", (4, 3, 1), {"bias": False}),
    ("CosineSimilarity", (), {}),
    ("CosineSimilarity", (), {"dim": 0, "eps": 0.5}),
]
PAIRS = pytest.mark.parametrize(("name", "args", "options"), CASES)


@PAIRS
def test_constructor_representation_and_state_are_those_of_torch(name, args, options):
    ours, theirs = made(name, args, options)
    assert inspect.signature(type(ours)) == inspect.signature(type(theirs))
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for key, value in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[key], value)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    theirs.load_state_dict(ours.state_dict(), strict=True)


@PAIRS
def test_value_and_gradients_are_those_of_torch(name, args, options):
    results = []
    for module in made(name, args, options):
        first = torch.linspace(-3, 1, 20).reshape(5, 4).requires_grad_()
        width = 3 if name == "Bilinear" else 4
        second = torch.linspace(-1, 2, 5 * width).sin().reshape(5, width).requires_grad_()
        out = module(first, second)
        results.append([out, *torch.autograd.grad(out.sum(), (first, second, *module.parameters()))])
    torch.testing.assert_close(*results)


@PAIRS
def test_swap_knows_it(name, args, options):
    (_, theirs) = made(name, args, options)
    with nn.swap(theirs):
        assert type(theirs) is getattr(nn, name)
    assert type(theirs) is getattr(torch.nn, name)
