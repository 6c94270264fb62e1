"""Every rule, through `derive`: first and second derivatives against differences, for each way to call it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor

from gradsmith.derive import DeriveError, derive
from gradsmith.derive.rules import RULES

torch.set_num_threads(1)

ELEMENTWISE = """
torch.exp(x); torch.exp2(x); torch.expm1(x); torch.log(x); torch.log2(x); torch.log10(x); x.log1p(); x.sqrt()
torch.rsqrt(x); x.sin(); x.cos(); x.tan(); x.asin(); x.acos(); x.atan(); x.sinh(); x.cosh(); x.asinh(); x.atanh()
torch.erf(x); torch.special.expit(x); F.logsigmoid(x); F.relu(x - 0.5); F.leaky_relu(x - 0.5); F.elu(x - 0.5)
F.softplus(x); F.softplus(x, 2.0); F.silu(x); F.gelu(x); F.gelu(x, approximate="tanh"); F.mish(x); F.softsign(x)
F.hardtanh(x - 0.5); F.relu6(x); F.tanhshrink(x); x.tanh(); x.sigmoid(); x.logit()
x.reciprocal(); x.square(); abs(x - 0.5); -x; x**3; x**0.5; 2**x; 1 / x; 1 - x; x % 0.3; torch.floor(x) * x
x.clamp(0.2, 0.6); x.clamp(max=0.5); torch.clamp_min(x, 0.4); x.clone(); x.contiguous(); torch.sign(x) * x
torch.where(x > 0.5, x, 0.0); x.masked_fill(x > 0.5, 0.0); torch.maximum(x, x.flip(0)); torch.minimum(x, x.flip(0))
torch.addcmul(x, x, x); x.lerp(x * 2, 0.3); torch.logaddexp(x, 2 * x); torch.add(x, x, alpha=2); x.sub(x * x, alpha=3)
x.type_as(x); x.double() * x; torch.hypot(x, 2 * x); x & x if x.dtype == torch.bool else x
"""
REDUCTIONS = """
x.sum(); x.sum(0); x.sum((0, 1)); x.sum((-2, -1)); x.sum(1, keepdim=True); x.mean(); x.mean(-1); x.mean((0, 1))
x.var(-1); x.var(); x.var(-1, unbiased=False); x.var(-1, False); x.var(-1, correction=0); x.std(-1); x.std()
torch.var(x, 1, correction=1); x.norm(); x.norm(dim=-1); x.norm(p=1, dim=0); x.norm(p=3, dim=0)
torch.linalg.norm(x, dim=-1); torch.linalg.vector_norm(x, dim=(0, 1)); x.logsumexp(-1); x.logsumexp((0, 1))
x.cumsum(-1); x.softmax(0); x.log_softmax(-1); F.softmin(x, -1); x.amax(-1); x.amin((0, 1)); x.amax(); x.max(); x.min()
x.max(-1).values; x.max(-1)[0]; x.min(1, keepdim=True)[0]; x.sort(-1)[0]; x.topk(2, -1)[0]; x.median(-1)[0]
F.normalize(x); F.normalize(x, dim=0); F.normalize(x, p=1.0); F.rms_norm(x, (4,), eps=1e-5); F.layer_norm(x, (4,))
F.layer_norm(x, (3, 4)); x.argmax(-1) * x.sum()
"""
MOVES = """
x.reshape(-1); x.view(4, 3); x.view((-1, 2, 2)); x.flatten(); x.ravel(); x.T; x.mT; x.t(); x.transpose(0, 1)
x.permute(1, 0); x.permute((-1, -2)); x.unsqueeze(0); x.unsqueeze(-1); x[None]; x[:, None]
x.unsqueeze(1).squeeze(1); x.unsqueeze(0).squeeze(); x.squeeze(0); x.expand(2, 3, 4); x.unsqueeze(-1).expand(-1, -1, 5)
x.flip(0); x.flip((0, 1)); x.roll(1, 0); x.roll((1, 2), (0, 1)); x.tril(); x.triu(1); x.movedim(0, 1)
x.unflatten(1, (2, 2)); x.swapaxes(0, 1); x[0]; x[:, 1]; x[..., -1]; x[:, 1:3]; x[1:, :2]; x[..., ::2]; x[0, 1:]
x[-1]; x[-2:, 1]; x[:, :-1]; x[torch.tensor([0, 2, 0])]; x[x > 0.5]; x.select(1, 2); x.narrow(1, 1, 2)
x.gather(1, torch.tensor([[0, 2], [1, 1], [3, 0]])); torch.take_along_dim(x, torch.tensor([[0], [1], [3]]), 1)
x.index_select(0, torch.tensor([0, 0, 2])); torch.cat([x, x * 2]); torch.cat((x, x.exp()), -1)
torch.stack([x, 2 * x], 1)
x.chunk(2, -1)[0] * x.chunk(2, -1)[1]; x.chunk(2, -1)[0]; x.unbind(0)[1]; x.split(2, 1)[0]; x.split([1, 3], 1)[1]
F.glu(x); torch.arange(x.shape[1]) * x; torch.zeros_like(x) + x; x * torch.tensor(2.0); x.new_ones(4) * x
x.numel() * x; x.ndim * x; x.size(0) * x; x.sum() / len(x); torch.full((4,), 2.0) * x; torch.eye(3) @ x.float()
"""
PRODUCTS = """
x.T @ x; x @ x.mT; x.mv(x[0]); x[0].dot(x[1]); x[0] @ x.T; torch.mm(x, x.T); torch.outer(x[0], x[1])
torch.einsum("ij,kj->ik", x, x); torch.einsum("ij,kl->ik", x, x); torch.einsum("ij->j", x)
torch.addmm(x[:, :3], x, x.T)
F.mse_loss(x, x**2); F.l1_loss(x, 2 * x); F.smooth_l1_loss(x, x**2, beta=0.3); F.smooth_l1_loss(x, x**2)
F.huber_loss(x, x**2, delta=0.3, reduction="sum"); F.cosine_similarity(x, x**2)
F.binary_cross_entropy_with_logits(x, x**2); F.binary_cross_entropy_with_logits(x, x**2, reduction="none")
F.scaled_dot_product_attention(x, 2 * x, x**2); F.scaled_dot_product_attention(x, x, x, is_causal=True, scale=0.3)
F.embedding(torch.tensor([[0, 2], [1, 1]]), x); F.linear(x, x)
"""
TWO = [
    ("x + y", (3, 4), (4,)),
    ("x - y", (3, 4), (3, 1)),
    ("x * y", (4,), (3, 4)),
    ("x / y", (3, 4), (1, 4)),
    ("x / y", (3, 4), ()),
    ("x**y", (3, 4), (4,)),
    ("torch.pow(x, y)", (3, 1), (4,)),
    ("torch.maximum(x, y)", (3, 4), (4,)),
    ("torch.min(x, y)", (3, 4), (3, 4)),
    ("torch.where(x > y, x, y)", (3, 4), (4,)),
    ("x.clamp(min=y)", (3, 4), (3, 4)),
    ("(x.unsqueeze(-1) - y).abs().sum(-1)", (3,), (3, 4)),
    ("x @ y", (3, 4), (4, 5)),
    ("x @ y", (2, 3, 4), (4, 5)),
    ("x @ y", (2, 3, 4), (2, 4, 5)),
    ("x @ y", (3, 4), (2, 4, 5)),
    ("x @ y", (2, 1, 3, 4), (5, 4, 6)),
    ("x @ y", (4,), (4, 5)),
    ("x @ y", (3, 4), (4,)),
    ("x @ y", (2, 3, 4), (4,)),
    ("x @ y", (4,), (2, 4, 5)),
    ("x @ y", (4,), (4,)),
    ("torch.bmm(x, y)", (2, 3, 4), (2, 4, 5)),
    ("F.linear(x, y)", (2, 3, 4), (5, 4)),
    ("F.linear(x, y)", (4,), (5, 4)),
    ("x.reshape(y.shape) * y", (12,), (3, 4)),
    ("x.expand_as(y) * y", (4,), (3, 4)),
    ("x.view_as(y) + y", (12,), (3, 4)),
    ("torch.cat([x, y], -1)", (3, 4), (3, 2)),
    ("(x * y).mean()", (3, 4), (3, 4)),
]
LABELS = [
    "F.cross_entropy(x, labels)",
    "F.cross_entropy(x, labels, reduction='sum')",
    "F.cross_entropy(x, labels, reduction='none')",
    "F.cross_entropy(x, labels, label_smoothing=0.1)",
    "F.cross_entropy(x[0], labels[0])",
    "F.cross_entropy(x.unsqueeze(-1).expand(3, 4, 2), labels.unsqueeze(-1).expand(3, 2))",
    "F.nll_loss(x.log_softmax(-1), labels)",
    "F.nll_loss(x.log_softmax(-1), labels, reduction='none')",
]


def expressions(text: str) -> list[str]:
    return [part.strip() for line in text.split("\n") for part in line.split(";") if part.strip()]


def between(*shape: int) -> Tensor:
    """Numbers in (0.1, 0.9), where everything here is smooth."""
    return torch.rand(shape, dtype=torch.float64) * 0.8 + 0.1


def function(arguments: str, text: str):
    return eval(f"lambda {arguments}: {text}", {"torch": torch, "F": F})


def assert_right(forward, *example: Tensor) -> None:
    op = derive(forward, *example).op
    inputs = [x.clone().requires_grad_(x.is_floating_point()) for x in example]
    assert torch.autograd.gradcheck(op, inputs)
    assert torch.autograd.gradgradcheck(op, inputs)


@pytest.mark.parametrize("text", expressions(ELEMENTWISE + REDUCTIONS + MOVES + PRODUCTS))
def test_the_rule_for_one_argument(text):
    torch.manual_seed(0)
    if "float()" in text:
        derive(function("x", text), between(3, 4).float())  # compared with autograd there
    else:
        assert_right(function("x", text), between(3, 4))


@pytest.mark.parametrize(("text", "first", "second"), TWO)
def test_the_rule_for_two_arguments(text, first, second):
    torch.manual_seed(0)
    assert_right(function("x, y", text), between(*first), between(*second))


@pytest.mark.parametrize("text", LABELS)
def test_the_rule_for_class_indices(text):
    torch.manual_seed(0)
    assert_right(function("x, labels", text), between(3, 4), torch.tensor([0, 3, -100]))


OF_ANY_SHAPE = """
x[0]; x[:, 1]; x[..., -1]; x[:, 1:3]; x[1:, 0]; x[1:, :-1]; x[..., ::2]; x[None, 1:]; x[:, None, 1:]; x.T; x.flatten()
x.sum((0, 1)); x.sum((-2, -1)); x.mean(0); x.var(-1); x.norm(dim=0); x.cumsum(-1); x.softmax(0); x.amax(-1)
x.max(-1)[0]; x.sort(0)[0]; x.unsqueeze(-1).expand(*x.shape, 2); torch.cat([x, x.exp()], -1); torch.stack([x, 2 * x])
x.chunk(2, -1)[0]; x.split([1, x.shape[1] - 1], 1)[1]; x.narrow(1, 1, 2); x.select(1, 2); x.roll(1, 0); x.tril()
x @ x.T; x.T @ x; (x * x.sum(0)).mean(); x / x.sum(-1, keepdim=True); x.reshape(x.shape[1], -1); x.view(-1)
F.normalize(x, dim=0); F.layer_norm(x, x.shape[1:]); x * x.numel() / x.ndim; x.gather(1, x.argmax(1, keepdim=True))
"""


@pytest.mark.parametrize("text", expressions(OF_ANY_SHAPE))
def test_the_formula_holds_for_another_shape(text):
    torch.manual_seed(0)
    forward = function("x", text)
    op = derive(forward, between(3, 4)).op
    x = between(5, 6).requires_grad_()
    assert torch.autograd.gradcheck(op, [x])
    torch.testing.assert_close(op(x), forward(x))


OF_ANY_DIM = """
x.softmax(dim); x.logsumexp(dim, keepdim=True) * x; x - x.mean(dim, keepdim=True); x.mean(dim).unsqueeze(dim) * x
x.max(dim)[0]; x.cumsum(dim) * x; x.norm(dim=dim); x / x.norm(dim=dim, keepdim=True); x.var(dim, keepdim=True) * x
(x * x.sum(dim, keepdim=True)).sum(-1); x.sum(-1, keepdim=True) * x.softmax(dim); x.sum(dim, keepdim=True).exp() * x
(x - x.mean(dim, keepdim=True)) / (x.var(dim, keepdim=True) + 1); x.size(dim) * x; x.amax(dim, keepdim=True) * x
"""


@pytest.mark.parametrize("text", expressions(OF_ANY_DIM))
def test_a_dimension_that_is_an_argument_may_be_another_one(text):
    torch.manual_seed(0)
    forward = function("x, dim=-1", text)
    op = derive(forward, between(3, 4)).op
    for shape, dim in (((3, 4), 0), ((2, 3, 4), 1), ((2, 3, 4), -2), ((2, 3, 4), 0)):
        x = between(*shape).requires_grad_()
        assert torch.autograd.gradcheck(lambda x, d=dim: op(x, d), [x])
        torch.testing.assert_close(op(x, dim), forward(x, dim))


def test_values_that_are_equal_share_the_gradient_as_in_torch():
    x = torch.tensor([1.0, 3.0, 3.0], dtype=torch.float64)
    for text in ("x.amax()", "x.amin()", "torch.maximum(x, x.flip(0))", "x.relu()", "(x - 3).relu()", "(x - 3).abs()"):
        derive(function("x", text), x)  # it compares with autograd itself


def test_a_norm_of_zero_has_the_gradient_zero():
    x = torch.zeros(2, 3, dtype=torch.float64)
    op = derive(function("x", "x.norm(dim=-1)"), between(2, 3)).op
    x.requires_grad_()
    assert torch.equal(torch.autograd.grad(op(x).sum(), x)[0], torch.zeros(2, 3, dtype=torch.float64))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("F.dropout(x)", "no rule for torch's `dropout`"),
        ("x.prod()", "no rule for torch's `prod`"),
        ("torch.einsum('ii->i', x @ x.T)", "an index that stands twice in one operand"),
        ("F.cross_entropy(x, x.softmax(-1))", "for class probabilities"),
        ("x.norm(p=0.5, dim=0)", "for ord=0.5"),
        ("torch.div(x, 2.0, rounding_mode='floor')", "with a rounding mode"),
        ("F.rms_norm(x, (4,))", "without eps"),
        ("x.scatter(1, torch.tensor([[0]]), 1.0)", "no rule for `input` of torch's `scatter`"),
    ],
)
def test_what_has_no_rule_is_refused_by_name_and_line(text, reason):
    with pytest.raises(DeriveError, match=r"\(.*:1\)") as caught:
        derive(function("x", text), between(3, 4))
    assert reason in str(caught.value)


def test_every_formula_asks_for_what_its_operation_has():
    for rule in RULES.values():
        for target, wants in rule.wants.items():
            assert target in rule.signature.parameters, rule.name
            assert set(wants) <= {"grad", "out", *rule.signature.parameters}, rule.name
