"""Right Functions of many kinds that tempt a checker: none may be accused."""

from __future__ import annotations

import torch
from registry import clean, positive, rand
from torch.autograd import Function


@clean(inputs=lambda: (rand(5, 5),))
class InvLogDet(Function):
    @staticmethod
    def forward(ctx, a):
        s = a @ a.mT + torch.eye(a.shape[-1], dtype=a.dtype)
        ctx.save_for_backward(a)
        return torch.linalg.slogdet(s)[1]

    @staticmethod
    def backward(ctx, g):
        (a,) = ctx.saved_tensors
        s = a @ a.mT + torch.eye(a.shape[-1], dtype=a.dtype)
        return g[..., None, None] * 2 * torch.linalg.inv(s) @ a


@clean(inputs=lambda: (rand(10, 4), torch.randint(0, 10, (7,))))
class Embedding(Function):
    @staticmethod
    def forward(ctx, w, idx):
        ctx.save_for_backward(idx)
        ctx.n = w.shape[0]
        return w[idx]

    @staticmethod
    def backward(ctx, g):
        (idx,) = ctx.saved_tensors
        return g.new_zeros(ctx.n, g.shape[-1]).index_add(0, idx.reshape(-1), g.reshape(-1, g.shape[-1])), None


@clean(inputs=lambda: (rand(20),))
class Clamp(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clamp(-1, 1)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * ((x >= -1) & (x <= 1))


@clean(inputs=lambda: (rand(6, 4),))
class Median(Function):
    @staticmethod
    def forward(ctx, x):
        v, i = x.median(-1)
        ctx.save_for_backward(i)
        ctx.shape = x.shape
        return v

    @staticmethod
    def backward(ctx, g):
        (i,) = ctx.saved_tensors
        return g.new_zeros(ctx.shape).scatter(-1, i[..., None], g[..., None])


@clean(inputs=lambda: (positive(12),))
class Log(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.log()

    @staticmethod
    def backward(ctx, g):
        return g / ctx.saved_tensors[0]


@clean(inputs=lambda: (positive(12),))
class Sqrt(Function):
    @staticmethod
    def forward(ctx, x):
        y = x.sqrt()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        return g / (2 * ctx.saved_tensors[0])


@clean(inputs=lambda: (rand(7, 3),))
class Cumsum(Function):
    @staticmethod
    def forward(ctx, x):
        return x.cumsum(0)

    @staticmethod
    def backward(ctx, g):
        return g.flip(0).cumsum(0).flip(0)


@clean(inputs=lambda: (rand(7, 3),))
class Gelu(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return 0.5 * x * (1 + torch.tanh(0.7978845608 * (x + 0.044715 * x**3)))

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        t = torch.tanh(0.79788456 * (x + 0.044715 * x**3))
        return g * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * 0.79788456 * (1 + 3 * 0.044715 * x * x))


@clean(inputs=lambda: (torch.softmax(torch.randn(4, 5), -1).requires_grad_(),))
class Entropy(Function):
    @staticmethod
    def forward(ctx, p):
        ctx.save_for_backward(p)
        return -(p * p.log()).sum(-1)

    @staticmethod
    def backward(ctx, g):
        (p,) = ctx.saved_tensors
        return -g[..., None] * (p.log() + 1)


@clean(inputs=lambda: (rand(3, 4), 2))
class Pow(Function):
    @staticmethod
    def forward(ctx, x, n):
        ctx.save_for_backward(x)
        ctx.n = n
        return x**n

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * ctx.n * x ** (ctx.n - 1), None


@clean(inputs=lambda: (rand(6, 4), rand(6, 4)))
class PairDist(Function):
    """At coincident points: curvature far beyond what a step resolves."""

    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return ((a - b) ** 2).sum(-1).add(1e-12).sqrt()

    @staticmethod
    def backward(ctx, g):
        a, b = ctx.saved_tensors
        d = a - b
        n = (d**2).sum(-1, keepdim=True).add(1e-12).sqrt()
        ga = g[..., None] * d / n
        return ga if ctx.needs_input_grad[0] else None, -ga if ctx.needs_input_grad[1] else None


@clean(
    inputs=lambda: (
        rand(
            64,
        ),
    )
)
class Float32Internal(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.float().sin().to(x.dtype)

    @staticmethod
    def backward(ctx, g):
        return (g.float() * ctx.saved_tensors[0].float().cos()).to(g.dtype)


@clean(inputs=lambda: (rand(4, 4),))
class SymEig(Function):
    @staticmethod
    def forward(ctx, a):
        w, _ = torch.linalg.eigh((a + a.mT) / 2)
        ctx.save_for_backward(a)
        return w

    @staticmethod
    def backward(ctx, g):
        (a,) = ctx.saved_tensors
        _, v = torch.linalg.eigh((a + a.mT) / 2)
        r = v @ (g[..., None] * v.mT)
        return (r + r.mT) / 2


@clean(inputs=lambda: (rand(3, 4), torch.tensor([True, False, True, True])))
class Masked(Function):
    @staticmethod
    def forward(ctx, x, m):
        ctx.save_for_backward(m)
        return x.masked_fill(m, -1e9)

    @staticmethod
    def backward(ctx, g):
        (m,) = ctx.saved_tensors
        return g.masked_fill(m, 0.0), None


@clean(
    inputs=lambda: (
        rand(
            6,
        ),
        torch.Generator().manual_seed(3),
    )
)
class GenNoise(Function):
    @staticmethod
    def forward(ctx, x, gen):
        n = torch.empty_like(x).normal_(generator=gen)
        ctx.save_for_backward(n)
        return x * n

    @staticmethod
    def backward(ctx, g):
        return g * ctx.saved_tensors[0], None


@clean(inputs=lambda: (rand(6, 4), rand(6, 4, seed=1)))
class PairDistApart(PairDist):
    pass
