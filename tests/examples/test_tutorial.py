"""examples/tutorial.py: the tutorial's numbers, in both styles, and what the tutorial's code gets wrong elsewhere."""

import json

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional

import gradsmith as gs

STYLES = ("op", "class")
NAMES = {
    "exp": ("exp", "Exp"),
    "linear": ("linear", "LinearFunction"),
    "func": ("func", "Func"),
    "cross_entropy": ("cross_entropy", "CrossEntropyLoss"),
    "sign": ("sign", "Sign"),
    "round": ("round", "Round"),
    "spike": ("spike", "Spike"),
}


@pytest.fixture(scope="module", params=STYLES)
def tutorial(request, example):
    """The tutorial's functions by name, in one style."""
    module = example("tutorial")
    index = STYLES.index(request.param)
    return {name: getattr(module, names[index]).apply for name, names in NAMES.items()}


def leaf(values):
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def test_exp_twice_gives_the_gradients_of_the_tutorial(tutorial):
    x = leaf([3.0, 4.0])
    (grad,) = torch.autograd.grad(tutorial["exp"](tutorial["exp"](x)).sum(), x)
    torch.testing.assert_close(grad, leaf([1.0615e10, 2.8109e25]).detach(), rtol=1e-4, atol=0)


def test_func_gives_eighteen_with_gradients_ten_and_nine_and_none_for_the_number(tutorial):
    x, y = leaf(1.0), leaf(2.0)
    out = tutorial["func"](x, y, 4)
    assert out.item() == 18
    assert [grad.item() for grad in torch.autograd.grad(out, (x, y))] == [10, 9]


def test_func_refuses_a_second_derivative_by_every_route(tutorial):
    def of_x(x):
        return tutorial["func"](x, torch.tensor(2.0, dtype=torch.float64), 4)

    def backward_twice(x):
        (grad,) = torch.autograd.grad(of_x(x), x, create_graph=True)
        return torch.autograd.grad(grad, x, allow_unused=True)

    def plus_itself(x):
        (grad,) = torch.autograd.grad(of_x(x) + x**2, x, create_graph=True)
        return torch.autograd.grad(grad, x)

    routes = (
        backward_twice,
        plus_itself,
        torch.func.grad(torch.func.grad(of_x)),
        torch.func.hessian(of_x),
        torch.func.jacfwd(torch.func.jacrev(of_x)),
        lambda x: torch.autograd.functional.hessian(of_x, x),
    )
    for route in routes:
        with pytest.raises(gs.SecondDerivativeError, match="once differentiable"):
            route(leaf(1.0))


def test_the_loss_gives_the_numbers_of_the_tutorial(tutorial):
    logits = leaf([[0.2, 0.3, 0.9]] * 2)
    loss = tutorial["cross_entropy"](logits, torch.tensor([0, 0]))
    (grad,) = torch.autograd.grad(loss, logits)
    assert loss.item() == pytest.approx(1.4156, abs=5e-5)
    torch.testing.assert_close(grad, leaf([[-0.3786, 0.1342, 0.2445]] * 2).detach(), rtol=0, atol=5e-5)


def test_the_loss_is_twice_differentiable(tutorial):
    logits, targets = torch.randn(4, 3, dtype=torch.float64, requires_grad=True), torch.tensor([0, 2, 1, 1])

    def loss(z):
        return tutorial["cross_entropy"](z * 1, targets)  # what arrives is no leaf

    assert gradcheck(loss, logits)
    assert gradgradcheck(loss, logits)


@pytest.mark.parametrize("leading", [(3,), (2, 3)])
@pytest.mark.parametrize("out_features", [1, 2])
@pytest.mark.parametrize("needs", [(1, 1, 1), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, None)])
def test_linear_is_right_for_one_feature_frozen_parameters_and_no_bias(tutorial, leading, out_features, needs):
    shapes = [(*leading, 4), (out_features, 4), (out_features,)]
    inputs = [
        None if need is None else torch.randn(shape, dtype=torch.float64).requires_grad_(bool(need))
        for shape, need in zip(shapes, needs, strict=True)
    ]
    wanted = [value for value in inputs if value is not None and value.requires_grad]
    out, expected = tutorial["linear"](*inputs), functional.linear(*inputs)
    upstream = torch.randn_like(out)
    got, want = (torch.autograd.grad(result, wanted, upstream) for result in (out, expected))
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize(
    ("name", "value", "gradient"),
    [
        ("sign", [-1.0, -1.0, 0.0, 1.0], [0.0, 1.0, 1.0, 1.0]),
        ("round", [-2.0, -0.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0]),
        ("spike", [0.0, 0.0, 1.0, 1.0], [1 / 256, 0.25, 1.0, 1 / 49]),
    ],
)
def test_functions_without_a_derivative_have_the_gradient_that_is_given(tutorial, name, value, gradient):
    x = leaf([-1.5, -0.1, 0.0, 0.6])
    out = tutorial[name](x)
    assert out.tolist() == value
    torch.testing.assert_close(torch.autograd.grad(out.sum(), x)[0], leaf(gradient).detach())


@pytest.mark.slow
def test_the_script_prints_the_numbers_and_passes_the_check(run):
    plain = run("tutorial")
    assert plain.returncode == 0, plain.stderr
    for number in ("2.811e+25", "[18.0]", "1.4156", "-0.37861"):
        assert plain.stdout.count(number) >= 2
    checked = run("tutorial", check=True)
    assert checked.returncode == 0, checked.stdout
    report = json.loads(checked.stdout)
    assert report["counts"]["error"] == report["counts"]["warning"] == 0
    names = {function["function"] for function in report["functions"]}
    assert {"exp", "Exp", "linear", "LinearFunction", "func", "Func", "cross_entropy", "CrossEntropyLoss"} <= names
