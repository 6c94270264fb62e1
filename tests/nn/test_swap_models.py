"""`gs.nn.swap` on whole models written with torch.nn alone: the same loss, gradients and training steps."""

import copy
import importlib.util
from pathlib import Path

import pytest
import torch

from gradsmith.nn import swap

FILE = Path(__file__).parents[2] / "benchmarks" / "swap_models.py"
spec = importlib.util.spec_from_file_location("swap_models", FILE)
models = importlib.util.module_from_spec(spec)
spec.loader.exec_module(models)


def gpt():
    return models.GPT(50, 32, 2, 2, 16), (torch.randint(50, (3, 16)), torch.randint(50, (3, 16)))


def vit():
    return models.ViT(24, 2, 2, 8, 32), (torch.randn(4, 3, 32, 32), torch.randint(100, (4,)))


def mlp():
    return models.MLP(20, 32, 2, 10), (torch.randn(6, 20), torch.randint(10, (6,)))


@pytest.fixture(params=[gpt, vit, mlp], ids=lambda make: make.__name__)
def case(request):
    """A model in float64, its swapped copy, and inputs."""
    plain, inputs = request.param()
    plain = plain.double()
    inputs = tuple(x.double() if x.is_floating_point() else x for x in inputs)
    ours = copy.deepcopy(plain)
    return plain, ours, swap(ours), inputs


def gradients(model, inputs):
    model.zero_grad()
    loss = model(*inputs)
    loss.backward()
    return loss.item(), {name: p.grad for name, p in model.named_parameters()}


def test_loss_and_every_gradient_are_the_same(case):
    plain, ours, _, inputs = case
    (loss, expected), (ours_loss, found) = gradients(plain, inputs), gradients(ours, inputs)
    assert ours_loss == pytest.approx(loss, rel=1e-10)
    for name, gradient in expected.items():
        assert torch.allclose(found[name], gradient, rtol=1e-8, atol=1e-10), name


def test_training_takes_the_same_course(case):
    plain, ours, _, inputs = case
    losses = []
    for model in (plain, ours):
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        losses.append([])
        for _ in range(5):
            losses[-1].append(gradients(model, inputs)[0])
            optimizer.step()
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    assert losses[0][-1] < losses[0][0]


def test_no_more_is_saved_than_before(case):
    _, ours, swapped, inputs = case
    bytes_ = swapped.saved(lambda: ours(*inputs))
    assert bytes_.after <= bytes_.before


def test_evaluation_is_the_same(case):
    plain, ours, _, inputs = case
    with torch.no_grad():
        assert ours.eval()(*inputs).item() == pytest.approx(plain.eval()(*inputs).item(), rel=1e-10)
