"""surrogate: another function's derivative, given by itself or as the function that has it."""

import pytest
import torch
from routes import POINTS, assert_differentiates_as

from gradsmith import CallError, DefinitionError, check
from gradsmith.surrogates import surrogate


def step(v):
    return (v >= 0).to(v.dtype)


def logistic(v):
    return torch.sigmoid(4 * v)


def logistic_derivative(v):
    s = torch.sigmoid(4 * v)
    return 4 * s * (1 - s)


@pytest.mark.parametrize(
    "op",
    [
        surrogate(step, logistic_derivative),
        surrogate(step, primitive=logistic),
        surrogate(step, logistic_derivative, primitive=logistic),
    ],
    ids=["derivative", "primitive", "both"],
)
def test_the_gradient_is_that_of_the_smooth_function_by_every_route(op):
    assert torch.equal(op(POINTS), step(POINTS))
    assert_differentiates_as(op, logistic, POINTS)


def test_a_primitive_need_not_be_elementwise():
    def one_hot(z):
        return torch.nn.functional.one_hot(z.argmax(-1), z.shape[-1]).to(z.dtype)

    def softmax(z):
        return z.softmax(-1)

    pick = surrogate(one_hot, primitive=softmax)
    z = torch.randn(3, 4, dtype=torch.float64)
    assert torch.equal(pick(z), one_hot(z))
    assert_differentiates_as(pick, softmax, z)


def test_a_primitive_gives_the_gradients_of_all_its_tensors():
    op = surrogate(lambda v, threshold: step(v - threshold), primitive=lambda v, threshold: logistic(v - threshold))
    v, threshold = torch.randn(5, requires_grad=True), torch.tensor(0.5, requires_grad=True)
    got = torch.autograd.grad(op(v, threshold).sum(), (v, threshold))
    torch.testing.assert_close(got, torch.autograd.grad(logistic(v - threshold).sum(), (v, threshold)))
    (alone,) = torch.autograd.grad(op(v.detach(), threshold).sum(), threshold)
    torch.testing.assert_close(alone, got[1])


def test_a_derivative_gets_as_many_leading_arguments_as_it_takes():
    op = surrogate(lambda v, slope, offset=0.0: step(v - offset), lambda v, slope: slope * v)
    v = torch.tensor([1.0, 3.0], requires_grad=True)
    assert op.saves() == ("v", "slope")
    assert torch.equal(torch.autograd.grad(op(v, 2.0).sum(), v)[0], torch.tensor([2.0, 6.0]))


def test_a_builtin_serves_as_forward_and_as_derivative():
    op = surrogate(torch.sign, torch.sigmoid)
    x = torch.tensor([0.0], requires_grad=True)
    assert torch.autograd.grad(op(x), x)[0].item() == 0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_value_and_gradient_keep_the_dtype(dtype):
    x = torch.randn(5, dtype=dtype, requires_grad=True)
    out = surrogate(step, logistic_derivative)(x)
    assert out.dtype == torch.autograd.grad(out.sum(), x)[0].dtype == dtype


def test_check_takes_a_right_derivative_for_what_it_is_declared_to_be():
    x = torch.randn(6, dtype=torch.float64, requires_grad=True)
    assert check(surrogate(step, logistic_derivative, primitive=logistic), (x,)).ok


def test_check_finds_a_derivative_that_is_not_that_of_its_primitive():
    wrong = surrogate(step, lambda v: 2 * logistic_derivative(v), primitive=logistic)
    report = check(wrong, (torch.randn(6, dtype=torch.float64, requires_grad=True),))
    assert report.codes == ("gradient-scale",)


def test_neither_a_derivative_nor_a_primitive_is_an_error():
    with pytest.raises(DefinitionError, match="give a derivative"):
        surrogate(step)


def test_booleans_are_refused_with_what_to_do():
    with pytest.raises(CallError, match=r"torch\.bool.*return out\.to\(x\.dtype\)"):
        surrogate(lambda v: v >= 0, logistic_derivative)(torch.randn(3, requires_grad=True))
