"""Each mistake has a name, and the message speaks of the author's arguments."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import Function

from gradsmith.check import check


def x(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype).requires_grad_()


def linear(backward):
    """A linear layer with this backward: grad, input, weight -> gradients of input and weight."""

    class Linear(Function):
        @staticmethod
        def forward(ctx, input, weight):
            ctx.save_for_backward(input, weight)
            return input @ weight.mT

        @staticmethod
        def backward(ctx, grad):
            return backward(grad, *ctx.saved_tensors)

    return Linear


def finding(backward, *inputs, argument="weight"):
    report = check(linear(backward), inputs or (x(4, 3), x(3, 3, seed=1)))
    return next(f for f in report.of("error") if f.argument == argument)


@pytest.mark.parametrize(
    ("wrong", "code", "says"),
    [
        (lambda g, i: -g.mT @ i, "gradient-sign", "negative of the derivative for `weight` in all 9 elements"),
        (lambda g, i: 2 * g.mT @ i, "gradient-scale", "2x the derivative for `weight` in all 9 elements"),
        (lambda g, i: g.mT @ i / 4, "gradient-scale", "one over the batch size 4"),
        (lambda g, i: 1.0005 * g.mT @ i, "gradient-scale", "1.0005x"),
        (lambda g, i: i.mT @ g, "gradient-transposed", "gradient for `weight` transposed"),
        (lambda g, i: 0 * g.mT @ i, "gradient-missing", "zero for `weight`"),
        (lambda g, i: torch.ones_like(g).mT @ i, "gradient-ignores-upstream", "does not use the upstream gradient"),
        (lambda g, i: g[:1].expand_as(g).mT @ i, "gradient-ignores-upstream", "first row of the upstream gradient"),
        (lambda g, i: g.mT @ i / 0, "gradient-nonfinite", "NaN or infinity for `weight`"),
        (lambda g, i: (g.mT @ i) * torch.tensor([[1.0], [3.0], [1.0]]), "gradient-wrong", "row 1 (3 of 9 elements)"),
    ],
)
def test_a_mistake_has_its_name(wrong, code, says):
    found = finding(lambda g, i, w: (g @ w, wrong(g, i)))
    assert found.code == code, found
    assert says in found.message


@pytest.mark.parametrize(
    ("factor", "code", "says"),
    [
        (3.0, "gradient-scale", "3x the derivative for `weight` in its only element"),
        (1 / 3, "gradient-scale", "1/3x the derivative"),
        (1.4937, "gradient-wrong", "for `weight`, where the derivative is "),
    ],
)
def test_of_a_single_element_only_a_whole_factor_is_called_one(factor, code, says):
    found = finding(lambda g, i, w: (g @ w, factor * g.mT @ i), x(5, 1), x(1, 1, seed=1))
    assert found.code == code, found
    assert says in found.message


def test_gradients_in_the_wrong_order_are_swapped():
    square = x(3, 3), x(3, 3, seed=1)
    found = finding(lambda g, i, w: (g.mT @ i, g @ w), *square)
    assert found.code == "gradient-swapped"
    assert "returns for `weight` the gradient of `input`" in found.message


def test_evidence_names_the_worst_element_both_values_and_the_oracle():
    def one_wrong(g, i, w):
        grad = g.mT @ i
        grad[1, 2] *= 1.05
        return g @ w, grad

    found = finding(one_wrong)
    assert found.evidence["element"] == [1, 2]
    assert found.evidence["got"] == pytest.approx(1.05 * found.evidence["expected"])
    assert found.evidence["wrong_elements"] == 1
    assert found.evidence["oracle"] == "replay"


def test_a_factor_is_named_by_the_tensor_that_it_is():
    class Sine(Function):
        @staticmethod
        def forward(ctx, angle):
            ctx.save_for_backward(angle)
            return angle.sin()

        @staticmethod
        def backward(ctx, grad):
            (angle,) = ctx.saved_tensors
            return grad * angle.cos() * angle

    (found,) = check(Sine, (x(3, 4),)).of("error")
    assert found.code == "gradient-scale"
    assert "the factor `angle` once too often" in found.message


def test_a_conjugate_is_named():
    class Square(Function):
        @staticmethod
        def forward(ctx, z):
            ctx.save_for_backward(z)
            return z * z

        @staticmethod
        def backward(ctx, grad):
            return grad * 2 * ctx.saved_tensors[0]

    (found,) = check(Square, (x(3, dtype=torch.complex128),)).of("error")
    assert found.code == "gradient-conjugate"
