"""POT: optimal transport, its losses and a matrix root (https://pythonot.github.io)."""

import ot
import torch

x = torch.randn(4, 2, dtype=torch.float64, requires_grad=True)
y = torch.randn(5, 2, dtype=torch.float64, requires_grad=True)
ot.emd2(torch.full((4,), 0.25, dtype=torch.float64), torch.full((5,), 0.2, dtype=torch.float64), ot.dist(x, y))
covariance = (x.detach() @ x.detach().mT + torch.eye(4)).requires_grad_()
ot.backend.TorchBackend().sqrtm(covariance)
