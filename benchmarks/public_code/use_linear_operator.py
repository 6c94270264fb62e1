"""linear_operator: solves and decompositions of structured matrices (https://linear-operator.readthedocs.io)."""

import torch
from linear_operator import settings, to_linear_operator

torch.manual_seed(0)
root = torch.randn(5, 5, dtype=torch.float64)
matrix = (root @ root.mT + 5 * torch.eye(5, dtype=torch.float64)).requires_grad_()
rhs = torch.randn(5, 2, dtype=torch.float64, requires_grad=True)

operator = to_linear_operator(matrix)
operator.matmul(rhs)
operator.solve(rhs)
operator.inv_quad(rhs)
operator.inv_quad_logdet(rhs, logdet=True)
with settings.max_cholesky_size(1), settings.cg_tolerance(1e-12), settings.max_preconditioner_size(0):
    to_linear_operator(matrix).solve(rhs)
    to_linear_operator(matrix).sqrt_inv_matmul(rhs)
    to_linear_operator(matrix).root_decomposition(method="lanczos")
    to_linear_operator(matrix).diagonalization(method="lanczos")
to_linear_operator(matrix).pivoted_cholesky(rank=3)
