"""What `derive` hands out is right: its values and gradients are those of the plain forward, at every order."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from shown import CASES, Case, attention, layer_norm, real, softmax
from torch import Tensor

from gradsmith.check.battery import check
from gradsmith.derive import Derived, DeriveError, derive
from gradsmith.derive.rules import RULES

torch.set_num_threads(1)
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def derived(case: Case) -> Derived:
    return derive(case.forward, *case.example())


def trainable(inputs):
    return [x.requires_grad_() if isinstance(x, Tensor) and x.is_floating_point() else x for x in inputs]


@every_case
def test_the_gradients_are_those_of_the_plain_forward(case):
    inputs = trainable(case.example())
    wanted = [x for x in inputs if x.requires_grad]
    op = derived(case).op
    expected, got = case.forward(*inputs), op(*inputs)
    torch.testing.assert_close(got, expected)
    upstream = torch.randn_like(expected)
    torch.testing.assert_close(
        torch.autograd.grad(got, wanted, upstream), torch.autograd.grad(expected, wanted, upstream)
    )


@every_case
def test_first_and_second_derivatives_agree_with_differences(case):
    inputs = trainable(case.example())
    op = derived(case).op
    assert torch.autograd.gradcheck(op, inputs)
    assert torch.autograd.gradgradcheck(op, inputs)


@every_case
def test_it_works_for_another_shape_than_the_example(case):
    op = derived(case).op
    inputs = trainable(case.other())
    wanted = [x for x in inputs if x.requires_grad]
    expected, got = case.forward(*inputs), op(*inputs)
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(torch.autograd.grad(got.sum(), wanted), torch.autograd.grad(expected.sum(), wanted))


@every_case
def test_it_passes_the_check_of_gradsmith(case):
    report = check(derived(case).op, tuple(trainable(case.example())), reference=case.forward)
    assert report.ok, str(report)


@pytest.mark.parametrize("form", ["float32", "vmap", "jvp"])
def test_the_op_is_right_under_transforms(form):
    op = derive(layer_norm, real(3, 4), real(4), real(4)).op
    x, weight, bias = real(3, 4), real(4), real(4)
    if form == "float32":
        args = [t.float() for t in (x, weight, bias)]
        torch.testing.assert_close(op(*args), layer_norm(*args))
    elif form == "vmap":
        gradient = torch.func.grad(lambda x: op(x, weight, bias).pow(2).sum())
        plain = torch.func.grad(lambda x: layer_norm(x, weight, bias).pow(2).sum())
        torch.testing.assert_close(torch.vmap(gradient)(x.unsqueeze(1)), torch.vmap(plain)(x.unsqueeze(1)))
    else:
        tangents = (real(3, 4), real(4), real(4))
        torch.testing.assert_close(
            torch.func.jvp(op, (x, weight, bias), tangents), torch.func.jvp(layer_norm, (x, weight, bias), tangents)
        )


@pytest.mark.parametrize(
    ("name", "argument", "saved"),
    [
        ("softmax", "x", {"out"}),
        ("logsumexp", "x", {"x", "out"}),
        ("layer_norm", "x", {"x", "weight", "mean", "rstd"}),
        ("layer_norm", "bias", {"bias.shape"}),
        ("rms_norm", "weight", {"x", "weight.shape", "rms"}),
        ("swiglu", "x", {"gate"}),
        ("normalize", "x", {"x", "norm"}),
        ("attention", "v", {"v.shape", "p"}),
        ("attention", "q", {"q.shape", "k", "v", "p"}),
        ("bilinear", "W", {"x", "y"}),
        ("polynomial", "b", {"x"}),
        ("mlp", "x", {"w1", "w2", "h"}),
        ("mlp", "w2", {"w2.shape", "h"}),
        ("cross_entropy", "logits", {"logits", "target"}),
    ],
)
def test_no_formula_saves_more_than_it_needs(name, argument, saved):
    case = next(case for case in CASES if case.name == name)
    assert set(derived(case).op.saves(argument)) == saved


def test_only_the_arguments_named_get_a_formula():
    result = derive(attention, real(3, 4), real(5, 4), real(5, 6), differentiable=["v"])
    assert "q=" not in result.source
    assert 'vjp("q")' not in result.source
    assert result.op.saves("v") == ("v.shape", "p")


def test_an_argument_that_does_not_matter_has_the_gradient_zero():
    result = derive(lambda x, y: x * 2 + torch.sign(y), real(3), real(3))
    assert "y=None" in result.source
    x, y = trainable((real(3), real(3)))
    assert torch.autograd.grad(result.op(x, y).sum(), y, allow_unused=True)[0] in (None, torch.zeros(3))


def test_several_outputs_are_called_as_the_author_calls_them():
    def moments(x):
        mean = x.mean(-1)
        square = (x * x).mean(-1)
        return mean, square

    result = derive(moments, real(3, 4))
    assert 'outputs=("mean", "square")' in result.source
    assert torch.autograd.gradcheck(result.op, trainable((real(3, 4),)))


def test_numbers_that_are_arguments_stay_arguments():
    def power(x, exponent=2.0, scale=1):
        return scale * x**exponent

    op = derive(power, real(3).abs()).op
    x = real(3).abs().requires_grad_()
    for options in ({}, {"exponent": 3.0}, {"scale": 5, "exponent": 0.5}):
        torch.testing.assert_close(op(x, **options), power(x, **options))
        assert torch.autograd.gradcheck(lambda x, o=options: op(x, **o), [x])


def test_a_value_that_decided_something_is_refused_when_it_changes():
    def scaled(x, mode="half", repeat=2, bias=None):
        for _ in range(repeat):
            x = x / 2 if mode == "half" else x * x
        return x if bias is None else x + bias

    op = derive(scaled, real(3)).op
    x = real(3)
    torch.testing.assert_close(op(x), scaled(x))
    for options in ({"mode": "square"}, {"repeat": 3}, {"bias": real(3)}):
        with pytest.raises(ValueError, match=f"derived for {next(iter(options))}="):
            op(x, **options)


def test_the_name_of_the_op_can_be_given():
    result = derive(lambda x: x.exp(), real(3), name="exponential")
    assert "def exponential(x):" in result.source
    assert str(result) == result.source


def test_a_random_value_is_kept_and_not_drawn_again():
    def noisy(x):
        noise = torch.rand_like(x)
        return x * noise

    result = derive(noisy, real(3))
    assert "noise=gs.constant(noise)" in result.source
    x = real(3).requires_grad_()
    out = result.op(x)
    torch.testing.assert_close(torch.autograd.grad(out.sum(), x)[0], (out / x).detach())


def test_nothing_is_handed_out_that_disagrees_with_autograd(monkeypatch):
    planted = {"input": lambda grad, out: 2 * grad * out}
    monkeypatch.setitem(RULES, "exp", replace(RULES["exp"], formulas=planted))
    with pytest.raises(DeriveError, match=r"the gradient of `x` of f does not agree with autograd's(.|\n)*2 \* grad"):
        derive(lambda x: torch.exp(x), real(3))


def test_the_example_is_left_as_it_was():
    x = real(3, 4).requires_grad_()
    before = x.detach().clone()
    state = torch.get_rng_state()
    derive(softmax, x)
    assert x.grad is None
    assert torch.equal(x, before)
    assert torch.equal(torch.get_rng_state(), state)
