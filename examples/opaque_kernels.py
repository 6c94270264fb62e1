"""Kernels that torch cannot see into, with a gradient: a special function of SciPy, and a loop compiled by numba.

python examples/opaque_kernels.py          (needs scipy; the second part needs numba)
"""

import importlib.util
import math

import torch
from scipy import special

import gradsmith as gs


@gs.opaque(lambda x: torch.empty_like(x))
def erfcx_kernel(x):
    return special.erfcx(x.numpy())


# The scaled complementary error function, erfcx' = 2 x erfcx - 2 / sqrt(pi): https://dlmf.nist.gov/7.10
erfcx = gs.op(erfcx_kernel, x=lambda grad, x, out: grad * (2 * x * out - 2 / math.sqrt(math.pi)))


def leaky_sum_op():
    """y_t = decay * y_{t-1} + x_t: a recurrence, slow in torch and quick as a loop. Its adjoint runs backwards."""
    import numba

    @numba.njit(cache=False)
    def loop(x, decay):
        y = x.copy()
        for t in range(1, len(y)):
            y[t] += decay * y[t - 1]
        return y

    @gs.opaque(lambda x, decay: torch.empty_like(x))
    def leaky_sum_kernel(x: torch.Tensor, decay: float):
        return loop(x.numpy(), decay)

    op = gs.op(leaky_sum_kernel)

    @op.vjp("x")
    def _(grad, decay):
        return op(grad.flip(0), decay).flip(0)  # itself an op: so the second derivative is right, too

    return op


def main():
    x = torch.linspace(-1, 2, 4, dtype=torch.float64, requires_grad=True)
    print("erfcx         ", erfcx(x).tolist())
    print("  gradient    ", torch.autograd.grad(erfcx(x).sum(), x)[0].tolist())
    print("  second      ", torch.func.vmap(torch.func.grad(torch.func.grad(erfcx)))(x.detach()).tolist())
    print("  in torch    ", torch.func.vmap(torch.func.grad(torch.func.grad(torch.special.erfcx)))(x.detach()).tolist())
    if importlib.util.find_spec("numba") is None:
        print("numba is not installed: pip install numba for the second part")
        return
    leaky_sum = leaky_sum_op()
    print("leaky sum     ", leaky_sum(x, 0.5).tolist())
    print("  gradient    ", torch.autograd.grad(leaky_sum(x, 0.5)[-1], x)[0].tolist())
    assert torch.autograd.gradcheck(lambda v: leaky_sum(v, 0.5), (x,))


if __name__ == "__main__":
    main()
