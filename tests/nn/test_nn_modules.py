"""gradsmith.nn: each module stands in for torch's, and torch's for it."""

import copy
import inspect

import pytest
import torch
from twins import made

from gradsmith import check, nn

BOTH = pytest.mark.parametrize(
    ("name", "args", "options"),
    [
        ("Linear", (4, 3), {}),
        ("Linear", (4, 1), {"bias": False}),
        ("Linear", (4, 3), {"dtype": torch.float64, "device": "cpu"}),
        ("CrossEntropyLoss", (), {}),
        (
            "CrossEntropyLoss",
            (torch.tensor([1.0, 2.0]),),
            {"ignore_index": 1, "reduction": "sum", "label_smoothing": 0.1},
        ),
        pytest.param(
            *("CrossEntropyLoss", (), {"size_average": False}), marks=pytest.mark.filterwarnings("ignore:size_average")
        ),
    ],
)


@BOTH
def test_constructor_representation_and_initial_state_are_those_of_torch(name, args, options):
    ours, theirs = made(name, args, options)
    assert inspect.signature(type(ours)) == inspect.signature(type(theirs))
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for key, value in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[key], value)
        assert ours.state_dict()[key].dtype == value.dtype


@BOTH
def test_state_dicts_are_exchanged_in_both_directions(name, args, options):
    ours, theirs = made(name, args, options)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    assert isinstance(copy.deepcopy(ours), type(ours))


@pytest.mark.parametrize("shape", [(4,), (5, 4), (2, 3, 4), (0, 4)])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_gives_value_and_gradients_of_torch(shape, bias):
    ours, theirs = made("Linear", (4, 3), {"bias": bias})
    results = []
    for module in (ours, theirs):
        x = torch.ones(shape, requires_grad=True)
        out = module(x)
        results.append([out, *torch.autograd.grad(out.square().sum(), [x, *module.parameters()])])
    torch.testing.assert_close(*results)


def test_a_frozen_weight_or_bias_gets_no_gradient():
    layer = nn.Linear(4, 3)
    layer.weight.requires_grad_(False)
    layer(torch.randn(2, 4)).sum().backward()
    assert layer.weight.grad is None
    assert torch.equal(layer.bias.grad, torch.full((3,), 2.0))


@pytest.mark.parametrize("kind", ["indices", "probabilities"])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_the_loss_gives_value_and_gradient_of_torch(kind, reduction):
    options = {"weight": torch.rand(3), "reduction": reduction, "label_smoothing": 0.1}
    target = torch.tensor([[0, 1], [-100, 2]]) if kind == "indices" else torch.rand(2, 3, 2)
    results = []
    for module in (nn.CrossEntropyLoss(**options), torch.nn.CrossEntropyLoss(**options)):
        logits = torch.linspace(-1, 1, 12).reshape(2, 3, 2).requires_grad_()
        out = module(logits, target)
        results.append([out, torch.autograd.grad(out.sum(), logits)[0]])
    torch.testing.assert_close(*results)


def test_the_weight_of_the_loss_moves_with_the_module():
    loss = nn.CrossEntropyLoss(weight=torch.ones(3)).double()
    assert loss(torch.randn(2, 3, dtype=torch.float64), torch.tensor([0, 1])).dtype == torch.float64


def test_a_model_of_both_passes_the_check():
    model = torch.nn.Sequential(nn.Linear(4, 5), torch.nn.Tanh(), nn.Linear(5, 3)).double()
    loss = nn.CrossEntropyLoss(label_smoothing=0.1)
    inputs = torch.randn(6, 4, dtype=torch.float64, requires_grad=True), torch.tensor([0, 1, 2, 0, 1, 2])
    report = check(lambda x, y: loss(model(x), y), inputs)
    assert report.functions == ("linear", "cross_entropy")
    assert report.ok
    assert not report.of("warning")
