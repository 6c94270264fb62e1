"""gpytorch: kernels and variational distributions of Gaussian processes (https://docs.gpytorch.ai)."""

import torch
from gpytorch.functions import log_normal_cdf
from gpytorch.functions.matern_covariance import MaternCovariance
from gpytorch.functions.rbf_covariance import RBFCovariance
from gpytorch.variational.large_batch_variational_strategy import QuadFormDiagonal
from gpytorch.variational.natural_variational_distribution import _NaturalToMuVarSqrt
from gpytorch.variational.tril_natural_variational_distribution import _TrilNaturalToMuVarSqrt
from gpytorch.variational.variational_strategy import ComputePredictiveUpdates


def distances(a, b):
    return torch.cdist(a, b).clone()


x = torch.randn(5, 2)
lengthscale = torch.tensor([[0.8]], requires_grad=True)
RBFCovariance.apply(x, x + 0.1, lengthscale, lambda a, b: distances(a, b).square())
for nu in (0.5, 1.5, 2.5):
    MaternCovariance.apply(x, x + 0.1, lengthscale, nu, distances)
log_normal_cdf(torch.tensor([-3.0, -1.4, -0.1, 0.05, 0.5, 2.0], requires_grad=True))

root = 0.3 * torch.randn(4, 4, dtype=torch.float64).tril() + torch.eye(4, dtype=torch.float64)
mean = torch.randn(4, dtype=torch.float64, requires_grad=True)
_NaturalToMuVarSqrt.apply(mean, (-0.5 * (root @ root.mT)).requires_grad_())
_TrilNaturalToMuVarSqrt.apply(mean, root.clone().requires_grad_())
middle = torch.randn(4, 4, dtype=torch.float64)
between = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
ComputePredictiveUpdates.apply(root.clone().requires_grad_(), between, (middle @ middle.mT).requires_grad_(), mean)
QuadFormDiagonal.apply((middle @ middle.mT).requires_grad_(), between)
