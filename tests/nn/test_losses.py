"""The losses of gradsmith.nn: constructor, state, values and gradients of torch's, for every option."""

import inspect

import pytest
import torch

from gradsmith import nn

pytestmark = pytest.mark.filterwarnings("ignore:reduction. 'mean' divides the total loss")
CASES = [
    ("HuberLoss", {}),
    ("HuberLoss", {"reduction": "sum", "delta": 0.5}),
    ("SmoothL1Loss", {}),
    ("SmoothL1Loss", {"reduction": "none", "beta": 0.5}),
    pytest.param("SmoothL1Loss", {"size_average": False}, marks=pytest.mark.filterwarnings("ignore:size_average")),
    ("BCEWithLogitsLoss", {}),
    ("BCEWithLogitsLoss", {"weight": torch.rand(3), "reduction": "sum", "pos_weight": torch.rand(3)}),
    ("KLDivLoss", {}),
    ("KLDivLoss", {"reduction": "batchmean", "log_target": True}),
]
LOSSES = pytest.mark.parametrize(("name", "options"), CASES)


@LOSSES
def test_constructor_representation_and_state_are_those_of_torch(name, options):
    ours, theirs = (getattr(library, name)(**options) for library in (nn, torch.nn))
    assert inspect.signature(type(ours)) == inspect.signature(type(theirs))
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict(), strict=True)
    theirs.load_state_dict(ours.state_dict(), strict=True)


@LOSSES
def test_value_and_gradient_are_those_of_torch(name, options):
    results = []
    for library in (nn, torch.nn):
        x = torch.linspace(-3, 1, 12).reshape(4, 3).requires_grad_()
        target = torch.linspace(0.1, 0.9, 12).reshape(4, 3).requires_grad_()
        out = getattr(library, name)(**options)(x, target)
        results.append([out, *torch.autograd.grad(out.sum(), (x, target))])
    torch.testing.assert_close(*results)


@LOSSES
def test_swap_knows_it(name, options):
    loss = getattr(torch.nn, name)(**options)
    with nn.swap(loss):
        assert type(loss) is getattr(nn, name)
    assert type(loss) is getattr(torch.nn, name)
