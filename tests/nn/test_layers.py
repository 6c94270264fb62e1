"""The layers of gradsmith.nn: constructor, state, values and gradients of torch's, for every option."""

import copy
import inspect

import pytest
import torch
from twins import made

from gradsmith import nn


def rows(*shape):
    return torch.linspace(-3, 3, torch.Size(shape).numel()).sin().reshape(shape).requires_grad_()


CASES = [
    ("LayerNorm", (6,), {}, rows(4, 6)),
    ("LayerNorm", ((2, 3),), {"bias": False}, rows(4, 2, 3)),
    ("LayerNorm", (6,), {"elementwise_affine": False, "eps": 0.1}, rows(2, 4, 6)),
    ("RMSNorm", (6,), {}, rows(4, 6)),
    ("RMSNorm", ((2, 3),), {"eps": 0.1}, rows(4, 2, 3)),
    ("RMSNorm", (6,), {"elementwise_affine": False}, rows(6)),
    ("GroupNorm", (2, 6), {}, rows(4, 6)),
    ("GroupNorm", (3, 6), {"affine": False, "eps": 0.1}, rows(2, 6, 3, 2)),
    ("Embedding", (5, 3), {}, torch.tensor([[0, 4], [4, 1]])),
    ("Embedding", (5, 3), {"padding_idx": -1, "scale_grad_by_freq": True}, torch.tensor([0, 4, 4, 1, 1])),
    ("Embedding", (5, 3), {"max_norm": 0.5}, torch.tensor([0, 4])),
    ("Embedding", (5, 3), {"sparse": True}, torch.tensor([0, 4, 4])),
    ("GELU", (), {}, rows(4, 6)),
    ("GELU", ("tanh",), {}, rows(4, 6)),
    ("SiLU", (), {}, rows(4, 6)),
    ("Dropout", (0.0,), {}, rows(4, 6)),
    ("Dropout", (1.0,), {}, rows(4, 6)),
]
LAYERS = pytest.mark.parametrize(
    ("name", "args", "options", "input"), CASES, ids=[f"{name}-{args}-{options}" for name, args, options, _ in CASES]
)


def value_and_gradients(module, input):
    out = module(input)
    upstream = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).cos().reshape(out.shape)
    wanted = [t for t in (input, *module.parameters()) if t.requires_grad]
    return [out, *torch.autograd.grad(out, wanted, upstream)]


@LAYERS
def test_constructor_representation_and_initial_state_are_those_of_torch(name, args, options, input):
    ours, theirs = made(name, args, options)
    assert inspect.signature(type(ours)) == inspect.signature(type(theirs))
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for key, value in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[key], value)


@LAYERS
def test_state_dicts_are_exchanged_in_both_directions(name, args, options, input):
    ours, theirs = made(name, args, options)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    assert isinstance(copy.deepcopy(ours), type(ours))


@LAYERS
def test_value_and_gradients_are_those_of_torch(name, args, options, input):
    ours, theirs = made(name, args, options)
    torch.testing.assert_close(value_and_gradients(ours, input), value_and_gradients(theirs, input))


@LAYERS
def test_the_same_in_double_precision(name, args, options, input):
    if input.is_floating_point():
        input = input.detach().double().requires_grad_()
    ours, theirs = (module.double() for module in made(name, args, options))
    torch.testing.assert_close(value_and_gradients(ours, input), value_and_gradients(theirs, input))


def test_dropout_keeps_its_share_and_its_gradient_has_the_mask_of_the_forward():
    x = torch.ones(10_000, requires_grad=True)
    out = nn.Dropout(0.25)(x)
    (gradient,) = torch.autograd.grad(out.sum(), x)
    assert torch.equal(gradient, out)
    assert out.unique().tolist() == pytest.approx([0, 4 / 3])
    assert (out == 0).float().mean().item() == pytest.approx(0.25, abs=0.02)


def test_silu_in_place_writes_to_its_input():
    x = torch.ones(5)
    assert nn.SiLU(inplace=True)(x) is x
    torch.testing.assert_close(x, torch.full((5,), 0.7310586))


def test_dropout_does_nothing_in_evaluation():
    x = torch.ones(5)
    assert nn.Dropout(0.9).eval()(x) is x


def test_dropout_in_place_writes_to_its_input():
    x = torch.ones(1000)
    assert nn.Dropout(0.5, inplace=True)(x) is x
    assert 0 < (x == 0).sum() < 1000
