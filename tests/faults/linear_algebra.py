"""Matrices as arguments: inverses, determinants, quadratic forms, solvers; transposes and signs."""

from __future__ import annotations

import torch
from registry import SaveInput, clean, fault, rand
from torch.autograd import Function


def matrix():
    return ((rand(3, 3).detach() + 3 * torch.eye(3)).requires_grad_(),)


@clean(inputs=matrix)
class Inverse(Function):
    @staticmethod
    def forward(ctx, a):
        out = torch.linalg.inv(a)
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx, grad):
        (out,) = ctx.saved_tensors
        return -out.mT @ grad @ out.mT


@fault("gradient-sign", inputs=matrix, argument="a")
class InverseSign(Inverse):
    @staticmethod
    def backward(ctx, grad):
        return -Inverse.backward(ctx, grad)


@fault("gradient-wrong", inputs=matrix, argument="a")
class InverseNotTransposed(Inverse):
    @staticmethod
    def backward(ctx, grad):
        (out,) = ctx.saved_tensors
        return -out @ grad @ out


@fault("gradient-transposed", inputs=matrix, argument="a", says="transposed")
class LogDeterminantNotTransposed(SaveInput):
    @staticmethod
    def forward(a):
        return torch.linalg.slogdet(a)[1]

    @staticmethod
    def backward(ctx, grad):
        return grad[..., None, None] * torch.linalg.inv(ctx.saved_tensors[0])


@fault("gradient-scale", inputs=matrix, argument="a", says="one over the output")
class DeterminantAsItsLogarithm(SaveInput):
    @staticmethod
    def forward(a):
        return torch.linalg.det(a)

    @staticmethod
    def backward(ctx, grad):
        return grad[..., None, None] * torch.linalg.inv(ctx.saved_tensors[0]).mT


@fault("gradient-wrong", inputs=lambda: (rand(3), *matrix()), argument="x")
class QuadraticFormAsIfSymmetric(SaveInput):
    @staticmethod
    def forward(x, a):
        return x @ a @ x

    @staticmethod
    def backward(ctx, grad):
        x, a = ctx.saved_tensors
        return 2 * grad * (a @ x) if ctx.needs_input_grad[0] else None, (
            grad * torch.outer(x, x) if ctx.needs_input_grad[1] else None
        )


@fault("gradient-transposed", inputs=lambda: (rand(3), *matrix()), argument="a")
class MatrixVectorOuterTransposed(SaveInput):
    @staticmethod
    def forward(x, a):
        return a @ x

    @staticmethod
    def backward(ctx, grad):
        x, a = ctx.saved_tensors
        return a.mT @ grad if ctx.needs_input_grad[0] else None, (
            torch.outer(x, grad) if ctx.needs_input_grad[1] else None
        )


@fault("gradient-wrong", inputs=lambda: (*matrix(), rand(3, seed=1)), argument="b")
class SolveNotTransposed(SaveInput):
    @staticmethod
    def forward(a, b):
        return torch.linalg.solve(a, b)

    @staticmethod
    def backward(ctx, grad):
        a, b = ctx.saved_tensors
        x = torch.linalg.solve(a, b)
        right = torch.linalg.solve(a.mT, grad)
        return -torch.outer(right, x) if ctx.needs_input_grad[0] else None, (
            torch.linalg.solve(a, grad) if ctx.needs_input_grad[1] else None
        )


@fault("gradient-sign", inputs=lambda: (*matrix(), rand(3, seed=1)), argument="a")
class SolveSign(SaveInput):
    @staticmethod
    def forward(a, b):
        return torch.linalg.solve(a, b)

    @staticmethod
    def backward(ctx, grad):
        a, b = ctx.saved_tensors
        x = torch.linalg.solve(a, b)
        right = torch.linalg.solve(a.mT, grad)
        return torch.outer(right, x) if ctx.needs_input_grad[0] else None, right if ctx.needs_input_grad[1] else None


@fault("gradient-wrong", inputs=lambda: (rand(4, 2), rand(3, 2, seed=1)), argument="a")
class SquaredDistancesHalfExpanded(SaveInput):
    """|a|^2 - 2 a.b + |b|^2 with the first term taken for a constant."""

    @staticmethod
    def forward(a, b):
        return a.square().sum(-1)[:, None] - 2 * a @ b.mT + b.square().sum(-1)

    @staticmethod
    def backward(ctx, grad):
        a, b = ctx.saved_tensors
        to_a = -2 * grad @ b
        to_b = 2 * grad.sum(0)[:, None] * b - 2 * grad.mT @ a
        return to_a if ctx.needs_input_grad[0] else None, to_b if ctx.needs_input_grad[1] else None


@fault(
    "gradient-scale", inputs=lambda: (rand(2, 3), rand(4, 3, seed=1), rand(5, 2, 4, seed=2)), argument="w", says="1/2x"
)
class BilinearHalf(SaveInput):
    @staticmethod
    def forward(x, y, w):
        return torch.einsum("ia,ja,kij->k", x, y, w)

    @staticmethod
    def backward(ctx, grad):
        x, y, w = ctx.saved_tensors
        need = ctx.needs_input_grad
        return (
            torch.einsum("k,ja,kij->ia", grad, y, w) if need[0] else None,
            torch.einsum("k,ia,kij->ja", grad, x, w) if need[1] else None,
            0.5 * torch.einsum("k,ia,ja->kij", grad, x, y) if need[2] else None,
        )
