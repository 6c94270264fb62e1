"""Each curve is the derivative of its primitive, a step from 0 to 1, and of the height that it states."""

import math

import pytest
import torch
from routes import POINTS, assert_differentiates_as

from gradsmith import DefinitionError
from gradsmith import surrogates as s

FAMILIES = [s.sigmoid, s.fast_sigmoid, s.atan, s.triangle, s.gaussian, s.exponential, s.boxcar]
HEIGHTS = {
    s.sigmoid: lambda k: k / 4,
    s.fast_sigmoid: lambda k: k / 2,
    s.atan: lambda a: a / 2,
    s.triangle: lambda a: a,
    s.gaussian: lambda a: a / math.sqrt(math.pi),
    s.exponential: lambda a: a / 2,
    s.boxcar: lambda a: a,
}
everywhere = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
steepness = pytest.mark.parametrize("steep", [0.5, 2.0, 25.0])


@everywhere
@steepness
def test_the_derivative_is_that_of_the_primitive(family, steep):
    curve = family(steep)
    u = torch.linspace(-3.03, 3.07, 401, dtype=torch.float64, requires_grad=True)  # off the kinks at 0 and the ends
    (exact,) = torch.autograd.grad(curve.primitive(u).sum(), u)
    torch.testing.assert_close(curve.derivative(u.detach()), exact)


@everywhere
@steepness
def test_the_primitive_is_a_step_from_zero_to_one_through_a_half(family, steep):
    ends = family(steep).primitive(torch.tensor([-1e9, 0.0, 1e9], dtype=torch.float64))
    torch.testing.assert_close(ends, torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64))


@everywhere
@steepness
def test_the_height_is_the_stated_one_and_can_be_fixed(family, steep):
    zero = torch.tensor(0.0, dtype=torch.float64)
    assert family(steep).derivative(zero).item() == pytest.approx(HEIGHTS[family](steep))
    assert family(steep).with_peak(0.3).derivative(zero).item() == pytest.approx(0.3)


@everywhere
def test_the_step_op_is_differentiated_so_by_every_route(family):
    curve = family(1.7)
    smooth = POINTS[(POINTS != 0) & (POINTS.abs() != 0.5 / 1.7)]  # where the primitive has one derivative
    assert_differentiates_as(curve.step, curve.primitive, smooth)


@everywhere
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_far_from_the_threshold_first_and_second_derivatives_are_finite(family, dtype):
    u = torch.tensor([-1e4, -0.0, 0.0, 1e4], dtype=dtype, requires_grad=True)
    (grad,) = torch.autograd.grad(family().step(u).sum(), u, create_graph=True)
    assert grad.isfinite().all()
    if grad.requires_grad:
        (second,) = torch.autograd.grad(grad.sum(), u, allow_unused=True, materialize_grads=True)
        assert second.isfinite().all()


@everywhere
def test_a_curve_without_steepness_is_refused(family):
    with pytest.raises(DefinitionError, match=f"{family.__name__}: its steepness must be positive, got 0"):
        family(0)


def test_a_curve_is_printed_as_it_is_written():
    assert repr(s.fast_sigmoid(10).with_peak(1)) == "fast_sigmoid(10).with_peak(1)"


@pytest.mark.slow
def test_two_curves_in_one_compiled_function_are_told_apart():
    def spikes(x, curve):
        return s.heaviside(x, curve).sum()

    compiled = torch.compile(spikes, fullgraph=True, backend="aot_eager")
    x = torch.tensor([0.1], requires_grad=True)
    for curve in (s.atan(), s.triangle(), s.atan(5.0)):
        torch.testing.assert_close(torch.autograd.grad(compiled(x, curve), x)[0], curve.derivative(x.detach()))
