"""torchsde: adjoints of stochastic differential equations (https://github.com/google-research/torchsde)."""

import torch
import torchsde


class Walk(torch.nn.Module):
    noise_type, sde_type = "diagonal", "stratonovich"

    def __init__(self):
        super().__init__()
        self.drift = torch.nn.Linear(2, 2)

    def f(self, t, y):
        return torch.tanh(self.drift(y))

    def g(self, t, y):
        return 0.1 * torch.sigmoid(y)


start = torch.randn(3, 2, requires_grad=True)
bm = torchsde.BrownianInterval(t0=0.0, t1=1.0, size=(3, 2), entropy=1)
torchsde.sdeint_adjoint(Walk(), start, torch.linspace(0, 1, 3), bm=bm, dt=0.02, method="midpoint")
