"""Several upstream gradients at once (`is_grads_batched`): of every op what they give one by one."""

import pytest
import torch

import gradsmith as gs
from gradsmith.catalog import CATALOG

LABELS = torch.arange(4) % 3
ANGLES = torch.arange(4.0)

OF_X = {
    "exp": gs.exp,
    "linear": lambda x: gs.linear(x, x),
    "embedding": lambda x: gs.embedding(torch.tensor([0, 2, 2]), x),
    "dropout": gs.dropout,
    "attention": lambda x: gs.attention(x, x, x, is_causal=True),
    "cross_entropy": lambda x: gs.cross_entropy(x, LABELS, label_smoothing=0.1),
    "huber_loss": lambda x: gs.huber_loss(x, x.detach() * 2),
    "smooth_l1_loss": lambda x: gs.smooth_l1_loss(x, x.detach() * 2, "none"),
    "binary_cross_entropy_with_logits": lambda x: gs.binary_cross_entropy_with_logits(x, (x > 0).float()),
    "focal_loss": lambda x: gs.focal_loss(x, (x > 0).float()),
    "kl_div": lambda x: gs.kl_div(x, x.detach().softmax(-1), reduction="sum"),
    "linear_cross_entropy": lambda x: gs.linear_cross_entropy(x, x[:3], LABELS),
    "cosine_similarity": lambda x: gs.cosine_similarity(x, x.flip(0)),
    "normalize": gs.normalize,
    "group_norm": lambda x: gs.group_norm(x, 2, x[0]),
    "bilinear": lambda x: gs.bilinear(x, x, torch.ones(2, 8, 8)),
    "rotary_embedding": lambda x: gs.rotary_embedding(x, ANGLES.cos(), ANGLES.sin()),
    "log_softmax": lambda x: gs.log_softmax(x, -1),
    "logsumexp": lambda x: gs.logsumexp(x, -1),
    "softmax": lambda x: gs.softmax(x, -1),
    "add_layer_norm": lambda x: gs.add_layer_norm(x, x.sin(), (8,), x[0])[0],
    "add_rms_norm": lambda x: gs.add_rms_norm(x, x.sin(), (8,), x[0])[1],
    "layer_norm": lambda x: gs.layer_norm(x, (8,), x[0], x[1]),
    "rms_norm": lambda x: gs.rms_norm(x, (8,), x[0]),
    "geglu": lambda x: gs.geglu(x, x.cos()),
    "gelu": gs.gelu,
    "silu": gs.silu,
    "swiglu": lambda x: gs.swiglu(x, x.cos()),
}


def assert_batched_as_one_by_one(function, x, **options):
    out = function(x)
    several = torch.randn(3, *out.shape)
    one_by_one = [torch.autograd.grad(out, x, each, retain_graph=True)[0] for each in several]
    batched = torch.autograd.grad(out, x, several, is_grads_batched=True, **options)[0]
    torch.testing.assert_close(batched, torch.stack(one_by_one))
    return batched


def test_every_op_is_here():
    assert set(OF_X) == set(CATALOG)


@pytest.mark.parametrize("function", OF_X.values(), ids=OF_X)
def test_of_few_elements(function):
    assert_batched_as_one_by_one(function, torch.randn(4, 8, requires_grad=True))


OF_MANY = {
    **{name: OF_X[name] for name in ("swiglu", "dropout", "logsumexp")},
    "rms_norm": lambda x: gs.rms_norm(x, (8,)),
    "layer_norm": lambda x: gs.layer_norm(x, (8,)),
}


@pytest.mark.parametrize("function", OF_MANY.values(), ids=OF_MANY)
def test_of_as_many_as_a_native_kernel_takes(function):
    assert_batched_as_one_by_one(lambda x: function(x.view(-1, 8)), torch.randn(2**17, requires_grad=True))


def test_of_a_loss_whose_gradient_was_computed_in_the_forward():
    target = torch.arange(1024) % 512
    assert_batched_as_one_by_one(lambda x: gs.cross_entropy(x, target), torch.randn(1024, 512, requires_grad=True))


@pytest.mark.parametrize("name", ["rms_norm", "swiglu", "normalize"])
def test_they_may_be_differentiated_again(name):
    x = torch.randn(4, 8, requires_grad=True)
    batched = assert_batched_as_one_by_one(OF_X[name], x, create_graph=True)
    torch.manual_seed(1)
    again = torch.autograd.grad(batched.sin().sum(), x)[0]
    assert again.isfinite().all()
    assert again.abs().sum() > 0
