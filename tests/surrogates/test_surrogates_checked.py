"""Our own medicine: what is declared is checked against the declaration, and holds."""

import pytest
import torch

from gradsmith import check
from gradsmith import surrogates as s

X = torch.tensor([-2.3, -0.7, -0.2, 0.1, 0.6, 1.4], dtype=torch.float64, requires_grad=True)

CURVES = [s.sigmoid, s.fast_sigmoid, s.atan, s.triangle, s.gaussian, s.exponential, s.boxcar]
CASES = {
    "round_ste": (s.round_ste, {}),
    "floor_ste": (s.floor_ste, {}),
    "ceil_ste": (s.ceil_ste, {}),
    "trunc_ste": (s.trunc_ste, {}),
    "sign_ste": (s.sign_ste, {}),
    "sign_ste ternary": (s.sign_ste, {"ternary": True}),
    "grad_reverse": (s.grad_reverse, {"scale": 0.3}),
    "grad_scale": (s.grad_scale, {"scale": 2.0}),
    "relu": (s.straight_through(torch.round, mask="relu"), {}),
    "argmax": (
        s.surrogate(
            lambda z: torch.nn.functional.one_hot(z.argmax(), len(z)).to(z.dtype), primitive=lambda z: z.softmax(0)
        ),
        {},
    ),
    **{family.__name__: (s.heaviside, {"surrogate": family()}) for family in CURVES},
    "with_peak": (s.heaviside, {"surrogate": s.atan().with_peak(0.3)}),
}


@pytest.mark.parametrize("name", CASES)
def test_a_declared_surrogate_passes_without_error_or_warning(name):
    op, options = CASES[name]
    report = check(op, (X,), options)
    assert report.of("error") == ()
    assert report.of("warning") == ()
    assert "surrogate-gradient" not in report.codes  # it is judged against its declaration, not taken as meant


@pytest.mark.parametrize("limits", [{"value": 0.5}, {"norm": 0.5}])
def test_clipping_is_no_derivative_of_anything_and_is_noted(limits):
    report = check(s.grad_clip, (X,), limits)
    assert report.of("error") == ()
    assert "gradient-modifier" in report.codes


@pytest.mark.parametrize("factor", [2.0, -1.0])
def test_a_wrong_curve_is_found(factor):
    right = s.atan()
    wrong = s.Curve("wrong", lambda u: factor * right.derivative(u), right.primitive)
    assert not check(s.heaviside, (X,), {"surrogate": wrong}).ok
