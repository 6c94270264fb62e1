"""torchdiffeq: adjoints of differential equations (https://github.com/rtqichen/torchdiffeq)."""

import torch
from torchdiffeq import odeint, odeint_adjoint, odeint_event


class Field(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(2, 2)

    def forward(self, t, y):
        return torch.tanh(self.linear(y))


field = Field().double()
start = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
times = torch.linspace(0, 1, 4, dtype=torch.float64, requires_grad=True)
odeint_adjoint(field, start, times, rtol=1e-9, atol=1e-9)
odeint(field, start, times.detach())
odeint(field, start, times, method="dopri5", options={"jump_t": torch.tensor([0.5], dtype=torch.float64)})


def fall(t, state):
    _, speed = state
    return speed, -torch.ones_like(speed)


height = torch.tensor([1.0], dtype=torch.float64, requires_grad=True)
speed = torch.tensor([0.5], dtype=torch.float64, requires_grad=True)
start_time = torch.tensor(0.0, dtype=torch.float64)
odeint_event(fall, (height, speed), start_time, event_fn=lambda t, y: y[0][0], rtol=1e-9, atol=1e-9)
