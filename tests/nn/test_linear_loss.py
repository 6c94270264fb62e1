"""LinearCrossEntropyLoss: torch's module of that name, without the logits."""

import pytest
import torch
from torch.nn import functional

from gradsmith import nn
from gradsmith.define.errors import CallError

OPTIONS = [
    {},
    {"bias": True, "reduction": "sum", "label_smoothing": 0.1},
    {"weight": torch.rand(7), "ignore_index": 3, "memory": "recompute"},
]


@pytest.mark.parametrize("options", OPTIONS)
def test_value_and_gradients_are_those_of_a_layer_and_a_loss(options):
    module = nn.LinearCrossEntropyLoss(4, 7, **options)
    x, target = torch.randn(2, 5, 4, requires_grad=True), torch.randint(0, 7, (2, 5))
    rest = {name: value for name, value in options.items() if name not in ("bias", "memory")}
    want = functional.cross_entropy(module.linear(x).flatten(0, 1), target.flatten(), **rest)
    loss = module(x, target)
    torch.testing.assert_close(loss, want)
    leaves = [x, *module.parameters()]
    torch.testing.assert_close(torch.autograd.grad(loss, leaves), torch.autograd.grad(want, leaves))


@pytest.mark.skipif(not hasattr(torch.nn, "LinearCrossEntropyLoss"), reason="new in torch 2.13")
@pytest.mark.parametrize("options", OPTIONS)
def test_state_dicts_are_exchanged_with_torchs_module(options):
    ours = nn.LinearCrossEntropyLoss(4, 7, **options)
    theirs = torch.nn.LinearCrossEntropyLoss(4, 7, **{k: v for k, v in options.items() if k != "memory"})
    theirs.load_state_dict(ours.state_dict(), strict=True)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    x, target = torch.randn(6, 4), torch.randint(0, 7, (6,))
    torch.testing.assert_close(ours(x, target), theirs(x, target))


def test_weights_may_be_tied_to_an_embedding():
    embedding, loss = torch.nn.Embedding(7, 4), nn.LinearCrossEntropyLoss(4, 7)
    loss.linear.weight = embedding.weight
    tokens = torch.randint(0, 7, (3, 6))
    loss(embedding(tokens[:, :-1]), tokens[:, 1:]).backward()
    assert embedding.weight.grad.abs().sum(1).gt(0).all()


def test_it_moves_between_dtypes_with_its_class_weights():
    loss = nn.LinearCrossEntropyLoss(4, 7, weight=torch.ones(7)).double()
    assert loss(torch.randn(6, 4, dtype=torch.float64), torch.randint(0, 7, (6,))).dtype == torch.float64


def test_what_does_not_fit_is_named():
    with pytest.raises(CallError, match=r"`input` has shape \[6, 5\]"):
        nn.LinearCrossEntropyLoss(4, 7)(torch.randn(6, 5), torch.zeros(6).long())


def test_cross_entropy_loss_overwrites_the_logits_where_it_is_told_to():
    loss, x, target = nn.CrossEntropyLoss(), torch.randn(5, 3, requires_grad=True), torch.zeros(5).long()
    logits = x * 1
    want = torch.autograd.grad(loss(logits, target), x)[0]
    torch.testing.assert_close(logits, x)
    loss.inplace = True
    logits = x * 1
    torch.testing.assert_close(torch.autograd.grad(loss(logits, target), x)[0], want)
    torch.testing.assert_close(logits.detach(), want)
