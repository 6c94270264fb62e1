"""Autocast, and complex numbers."""

import pytest
import torch
from torch.nn import functional

import gradsmith as gs

FORMULAS = {"x": lambda grad, w: grad @ w.mT, "w": lambda grad, x: x.mT @ grad}


class MatMul(gs.Function):
    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return x @ w

    @staticmethod
    def backward(ctx, grad_output):
        x, w = ctx.saved_tensors
        return grad_output @ w.mT, x.mT @ grad_output


def matmul(x, w):
    return x @ w


as_given = gs.op(matmul, **FORMULAS)
cast_inputs = gs.op(matmul, cast="inputs", **FORMULAS)
cast_float32 = gs.op(matmul, cast="float32", **FORMULAS)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    ("function", "out_dtype"),
    [(as_given, "autocast"), (cast_inputs, "autocast"), (cast_float32, torch.float32), (MatMul.apply, "autocast")],
    ids=["as given", "inputs", "float32", "class"],
)
def test_under_autocast_gradients_arrive_in_the_dtype_of_each_argument(function, out_dtype, dtype):
    x, w = torch.randn(4, 3, requires_grad=True), torch.randn(3, 5, requires_grad=True)
    with torch.autocast("cpu", dtype=dtype):
        out = function(x, w)
    assert out.dtype == (dtype if out_dtype == "autocast" else out_dtype)
    grads = torch.autograd.grad(out.float().sum(), (x, w))
    expected = torch.autograd.grad((x @ w).sum(), (x, w))
    assert [grad.dtype for grad in grads] == [torch.float32, torch.float32]
    torch.testing.assert_close(grads, expected, rtol=2e-2, atol=2e-2)


def test_a_backward_inside_autocast_keeps_the_precision_of_its_forward():
    x, w = torch.randn(4, 3, requires_grad=True), torch.randn(3, 5, requires_grad=True)
    out = as_given(x, w)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        grads = torch.autograd.grad(out.sum(), (x, w))
    torch.testing.assert_close(grads, torch.autograd.grad((x @ w).sum(), (x, w)), rtol=0, atol=0)


def test_a_second_derivative_works_under_autocast():
    x, w = torch.randn(4, 3, requires_grad=True), torch.randn(3, 5, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (g,) = torch.autograd.grad((as_given(x, w).float() ** 2).sum(), x, create_graph=True)
        (second,) = torch.autograd.grad((g**2).sum(), w)
    assert second.dtype == torch.float32
    assert second.isfinite().all()


def test_float64_is_not_cast_down():
    x, w = torch.randn(4, 3, dtype=torch.float64), torch.randn(3, 5, dtype=torch.float64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert cast_inputs(x, w).dtype == torch.float64


def test_custom_fwd_works_with_setup_context():
    class Scaled(gs.Function):
        @staticmethod
        @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)
        def forward(x, w):
            return x @ w

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(*inputs)

        @staticmethod
        @torch.amp.custom_bwd(device_type="cpu")
        def backward(ctx, grad_output):
            x, w = ctx.saved_tensors
            return grad_output @ w.mT, x.mT @ grad_output

    x, w = torch.randn(4, 3, requires_grad=True), torch.randn(3, 5, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = Scaled.apply(x, w)
    out.sum().backward()
    assert x.grad.dtype == torch.float32


def test_gradients_of_another_floating_dtype_are_cast():
    op = gs.op(lambda x: x * 2, x=lambda grad: grad.double() * 2)
    x = torch.ones(3, requires_grad=True)
    assert torch.autograd.grad(op(x).sum(), x)[0].dtype == torch.float32


def test_complex_arguments_follow_torchs_conjugate_convention():
    product = gs.op(lambda a, b: a * b, a=lambda grad, b: grad * b.conj(), b=lambda grad, a: grad * a.conj())
    a, b = (torch.randn(3, dtype=torch.complex128, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(product, (a, b), check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(product, (a, b))


def test_a_real_argument_of_a_complex_result_gets_a_real_gradient():
    product = gs.op(lambda a, b: a * b, a=lambda grad, b: grad * b.conj(), b=lambda grad, a: grad * a)
    a = torch.randn(3, dtype=torch.float64, requires_grad=True)
    b = torch.randn(3, dtype=torch.complex128, requires_grad=True)
    assert torch.autograd.gradcheck(product, (a, b), check_forward_ad=True)
    assert functional.relu(torch.autograd.grad(product(a, b).abs().sum(), a)[0]).dtype == torch.float64
