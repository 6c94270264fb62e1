"""Moving, picking and joining elements: their way back, repeated indices, offsets, slots."""

from __future__ import annotations

import torch
from registry import SaveInput, clean, fault, rand
from torch.autograd import Function


def repeated():
    return rand(6, 3), torch.tensor([0, 2, 2, 5])


class KeepsShape(Function):
    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.shape = inputs[0].shape


@clean(inputs=repeated)
class PickRows(Function):
    @staticmethod
    def forward(ctx, table, index):
        ctx.save_for_backward(index)
        ctx.shape = table.shape
        return table[index]

    @staticmethod
    def backward(ctx, grad):
        (index,) = ctx.saved_tensors
        return grad.new_zeros(ctx.shape).index_add(0, index, grad), None


@fault("gradient-wrong", inputs=repeated, argument="table", says="row 2")
class PickRowsAssigns(PickRows):
    """Of two gradients for one row, the last one stays."""

    @staticmethod
    def backward(ctx, grad):
        (index,) = ctx.saved_tensors
        out = grad.new_zeros(ctx.shape)
        for place, row in enumerate(index.tolist()):
            out = torch.cat([out[:row], grad[place : place + 1], out[row + 1 :]])
        return out, None


@fault("gradient-wrong", inputs=lambda: (rand(6, 3), torch.tensor([0, 2, 4, 5]), 2), argument="table", says="row 2")
class EmbeddingForgetsPadding(PickRows):
    """The forward gives zeros for the padding index, the backward knows nothing of it."""

    @staticmethod
    def forward(ctx, table, index, padding):
        return PickRows.forward(ctx, table, index) * (index != padding)[:, None]

    @staticmethod
    def backward(ctx, grad):
        return *PickRows.backward(ctx, grad), None


@fault("gradient-transposed", inputs=lambda: (rand(5, 3),), argument="x", says="shifted by")
class RollTheSameWay(Function):
    @staticmethod
    def forward(ctx, x):
        return x.roll(1, 0)

    @staticmethod
    def backward(ctx, grad):
        return grad.roll(1, 0)


@fault("gradient-transposed", inputs=lambda: (rand(5, 3),), argument="x", says="reversed along dimension 1")
class FlipThereNotBack(Function):
    @staticmethod
    def forward(ctx, x):
        return x.flip(1)

    @staticmethod
    def backward(ctx, grad):
        return grad.clone()


@fault("gradient-transposed", inputs=lambda: (rand(3, 4),), argument="x")
class TransposeReshapedBack(KeepsShape):
    @staticmethod
    def forward(x):
        return x.mT.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad.reshape(ctx.shape)


@fault("gradient-transposed", inputs=lambda: (rand(3, 3, 3),), argument="x")
class PermuteTheSameWay(Function):
    @staticmethod
    def forward(ctx, x):
        return x.permute(2, 0, 1).clone()

    @staticmethod
    def backward(ctx, grad):
        return grad.permute(2, 0, 1)


@fault("gradient-shape", inputs=lambda: (rand(2, 3, 4),), argument="x")
class PermuteTheSameWayOddly(Function):
    @staticmethod
    def forward(ctx, x):
        return x.permute(2, 0, 1).clone()

    @staticmethod
    def backward(ctx, grad):
        return grad.permute(2, 0, 1)


@fault("gradient-transposed", inputs=lambda: (rand(7),), argument="x")
class SortReturnsSortedGradient(Function):
    @staticmethod
    def forward(ctx, x):
        return x.sort().values

    @staticmethod
    def backward(ctx, grad):
        return grad.clone()


@fault("gradient-shape", inputs=lambda: (rand(6, 2),), argument="x")
class SliceNotPadded(Function):
    @staticmethod
    def forward(ctx, x):
        return x[1:4].clone()

    @staticmethod
    def backward(ctx, grad):
        return grad.clone()


@fault("gradient-wrong", "gradient-transposed", inputs=lambda: (rand(6, 2),), argument="x")
class SlicePaddedAtTheWrongEnd(KeepsShape):
    @staticmethod
    def forward(x):
        return x[1:4].clone()

    @staticmethod
    def backward(ctx, grad):
        return torch.cat([grad, grad.new_zeros(ctx.shape[0] - grad.shape[0], *ctx.shape[1:])])


@fault("gradient-swapped", inputs=lambda: (rand(2, 3), rand(2, 3, seed=1)), argument="a")
class CatTakenApartBackwards(Function):
    @staticmethod
    def forward(ctx, a, b):
        ctx.count = a.shape[0]
        return torch.cat([a, b])

    @staticmethod
    def backward(ctx, grad):
        return grad[ctx.count :].clone(), grad[: ctx.count].clone()


@fault("gradient-missing", inputs=lambda: (rand(3), rand(3, seed=1), rand(3, seed=2)), argument="tensors[2]")
class StackForgetsTheLast(Function):
    @staticmethod
    def forward(ctx, *tensors):
        return torch.stack(tensors)

    @staticmethod
    def backward(ctx, grad):
        return *grad[:-1].unbind(0), torch.zeros_like(grad[-1])


@fault("gradient-wrong", inputs=lambda: (rand(4, 4),), argument="x")
class TriangleOfTheOtherSide(Function):
    @staticmethod
    def forward(ctx, x):
        return x.triu()

    @staticmethod
    def backward(ctx, grad):
        return grad.tril()


@fault("gradient-wrong", inputs=lambda: (rand(4, 4),), argument="x")
class TraceToEverybody(KeepsShape):
    @staticmethod
    def forward(x):
        return x.diagonal(dim1=-2, dim2=-1).sum(-1)

    @staticmethod
    def backward(ctx, grad):
        return grad[..., None, None].expand(ctx.shape)


@fault("gradient-wrong", inputs=lambda: (rand(5, 4), torch.tensor([1, 0, 1, 1, 0])), argument="x")
class SegmentMeansNotDivided(SaveInput):
    """Sums where the forward takes means; segments of two sizes, so no one factor."""

    @staticmethod
    def forward(x, segment):
        sums = x.new_zeros(2, x.shape[-1]).index_add(0, segment, x)
        return sums / torch.bincount(segment, minlength=2).clamp_min(1)[:, None]

    @staticmethod
    def backward(ctx, grad):
        return grad[ctx.saved_tensors[1]], None
