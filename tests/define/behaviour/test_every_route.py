"""One suite: what is saved x style x route x transform. Every cell equals autodiff of the oracle."""

import pytest
import torch
from derivative_routes import ROUTES, TRANSFORMS
from subjects import SUBJECTS

X = torch.tensor([0.3, -0.7, 1.1], dtype=torch.float64)


@pytest.mark.parametrize("route", [*ROUTES, *TRANSFORMS])
@pytest.mark.parametrize("subject", SUBJECTS)
def test_the_rule_is_what_every_route_uses(subject, route):
    derivative = {**ROUTES, **TRANSFORMS}[route]
    f = SUBJECTS[subject]
    torch.testing.assert_close(derivative(f.call, X), derivative(f.oracle, X), rtol=1e-9, atol=1e-9)
