"""xitorch: roots, equilibria, eigenvectors and integrals (https://xitorch.readthedocs.io)."""

import torch
import xitorch
from xitorch import integrate, linalg, optimize

a = (0.2 * torch.randn(3, 3, dtype=torch.float64)).requires_grad_()
start = torch.zeros(3, 1, dtype=torch.float64)


def step(y, a):
    return torch.tanh(a @ y + 0.1) + y / 2


optimize.equilibrium(step, start, params=(a,), f_tol=1e-12)
optimize.rootfinder(lambda y, a: y**3 + y + (a @ y) - 1, start, params=(a,), f_tol=1e-12)
optimize.minimize(lambda y, a: ((y - a.sum()) ** 2).sum() + (y**4).sum(), start, params=(a,))
symmetric = a.detach() + a.detach().mT + torch.diag(torch.arange(3.0, dtype=torch.float64))
operator = xitorch.LinearOperator.m(symmetric.requires_grad_(), is_hermitian=True)
linalg.symeig(operator)
linalg.solve(operator, torch.ones(3, 1, dtype=torch.float64, requires_grad=True))
low, high = (torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (0.0, 1.0))
integrate.quad(lambda x, a: torch.cos(a * x), low, high, params=(a,))
times = torch.linspace(0, 1, 3, dtype=torch.float64, requires_grad=True)
begin = torch.ones(3, 1, dtype=torch.float64, requires_grad=True)
integrate.solve_ivp(lambda t, y, a: a @ y, times, begin, params=(a,))
