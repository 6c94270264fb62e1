"""Matrix products and what is built of them."""

import torch
from benchmarks.mutants.specimen import larger, rand, specimen
from torch.autograd import Function
from torch.nn import functional


@specimen(lambda draw: (rand(draw, 4 + larger(draw), 3), rand(draw, 5, 3, seed=1), rand(draw, 5, seed=2)))
class Linear(Function):
    """The example of PyTorch's notes on extending autograd, for any number of leading dimensions."""

    @staticmethod
    def forward(ctx, input, weight, bias):
        ctx.save_for_backward(input, weight)
        return input @ weight.mT + bias

    @staticmethod
    def backward(ctx, grad_output):
        input, weight = ctx.saved_tensors
        rows = grad_output.reshape(-1, weight.shape[0])
        grad_input = grad_output @ weight
        grad_weight = rows.mT @ input.reshape(-1, weight.shape[1])
        return grad_input, grad_weight, rows.sum(0)


@specimen(lambda draw: (rand(draw, 3, 3), rand(draw, 3, 3, seed=1)))
class SquareMatMul(Function):
    """Square matrices: a transposition too few or too many still fits."""

    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return torch.matmul(a, b)

    @staticmethod
    def backward(ctx, grad):
        a, b = ctx.saved_tensors
        grad_a = torch.matmul(grad, b.transpose(-2, -1))
        grad_b = torch.matmul(a.transpose(-2, -1), grad)
        return grad_a.sum_to_size(a.shape), grad_b.sum_to_size(b.shape)


@specimen(lambda draw: (rand(draw, 2, 3, 4 + larger(draw)), rand(draw, 2, 4 + larger(draw), 3, seed=1)))
class BatchedMatMul(Function):
    @staticmethod
    def forward(a, b):
        return torch.bmm(a, b)

    @staticmethod
    def setup_context(ctx, inputs, output):
        a, b = inputs
        ctx.save_for_backward(a, b)

    @staticmethod
    def backward(ctx, grad):
        a, b = ctx.saved_tensors
        return torch.bmm(grad, b.mT), torch.bmm(a.mT, grad)


@specimen(lambda draw: (rand(draw, 4, 3 + larger(draw)), rand(draw, 4, 5, seed=1), rand(draw, 2, 3 + larger(draw), 5)))
class Bilinear(Function):
    @staticmethod
    def forward(ctx, left, right, weight):
        ctx.save_for_backward(left, right, weight)
        return torch.einsum("bi,oij,bj->bo", left, weight, right)

    @staticmethod
    def backward(ctx, grad):
        left, right, weight = ctx.saved_tensors
        grad_left = torch.einsum("bo,oij,bj->bi", grad, weight, right)
        grad_right = torch.einsum("bo,oij,bi->bj", grad, weight, left)
        grad_weight = torch.einsum("bo,bi,bj->oij", grad, left, right)
        return grad_left, grad_right, grad_weight


@specimen(lambda draw: (rand(draw, 3 + larger(draw)), rand(draw, 4, seed=1)))
class Outer(Function):
    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return torch.outer(a, b)

    @staticmethod
    def backward(ctx, grad):
        a, b = ctx.saved_tensors
        return grad @ b, grad.mT @ a


@specimen(lambda draw: (rand(draw, 4, 3), rand(draw, 3, 3, seed=1)))
class QuadraticForm(Function):
    """x' A x of each row."""

    @staticmethod
    def forward(ctx, x, matrix):
        ctx.save_for_backward(x, matrix)
        return torch.einsum("bi,ij,bj->b", x, matrix, x)

    @staticmethod
    def backward(ctx, grad):
        x, matrix = ctx.saved_tensors
        scaled = grad.unsqueeze(-1) * x
        return scaled @ matrix.mT + scaled @ matrix, scaled.mT @ x


@specimen(lambda draw: (rand(draw, 2, 3, 6 + larger(draw)), rand(draw, 4, 3, 3, seed=1)))
class Conv1d(Function):
    """A convolution as a product with the windows of its input."""

    @staticmethod
    def forward(ctx, input, weight):
        windows = input.unfold(-1, weight.shape[-1], 1)
        ctx.save_for_backward(input, weight)
        return torch.einsum("bclk,ock->bol", windows, weight)

    @staticmethod
    def backward(ctx, grad):
        input, weight = ctx.saved_tensors
        size = weight.shape[-1]
        windows = input.unfold(-1, size, 1)
        grad_weight = torch.einsum("bol,bclk->ock", grad, windows)
        around = functional.pad(grad, (size - 1, size - 1)).unfold(-1, size, 1)
        grad_input = torch.einsum("bolk,ock->bcl", around, weight.flip(-1))
        return grad_input, grad_weight


@specimen(lambda draw: (rand(draw, 4, 3), rand(draw, 3, 3, seed=1), rand(draw, 3, 3, seed=2)))
class LowRank(Function):
    """x + x U V', square so that everything fits everywhere."""

    @staticmethod
    def forward(ctx, x, u, v):
        ctx.save_for_backward(x, u, v)
        return x + x @ u @ v.mT

    @staticmethod
    def backward(ctx, grad):
        x, u, v = ctx.saved_tensors
        through = grad @ v
        grad_u = (x.mT @ through).sum_to_size(u.shape)
        grad_v = (grad.mT @ (x @ u)).sum_to_size(v.shape)
        return grad + through @ u.mT, grad_u, grad_v


@specimen(lambda draw: (rand(draw, 3, 3).detach().add(3 * torch.eye(3)).requires_grad_(), rand(draw, 3, 2, seed=1)))
class Solve(Function):
    @staticmethod
    def forward(ctx, matrix, right):
        out = torch.linalg.solve(matrix, right)
        ctx.save_for_backward(matrix, out)
        return out

    @staticmethod
    def backward(ctx, grad):
        matrix, out = ctx.saved_tensors
        grad_right = torch.linalg.solve(matrix.mT, grad)
        return -grad_right @ out.mT, grad_right
