"""The ladder knows a slope, and knows how well it knows it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gradsmith.check.difference import ladder


def changes(function, x):
    def change(h):
        try:
            right, left = function(x + h) - function(x), function(x) - function(x - h)
        except ValueError:  # out of the domain
            return None
        return right, left, abs(right - left)

    return change


def estimate(function, x, accuracy=1e-9):
    return ladder(changes(function, x), step=1e-3, accuracy=accuracy, noise=2e-16 * abs(function(x)))


@pytest.mark.parametrize(
    ("function", "x", "slope"),
    [
        (math.sin, 0.7, math.cos(0.7)),
        (lambda x: 3 * x, 2.0, 3.0),
        (lambda x: math.sin(3000 * x), 0.2, 3000 * math.cos(600)),
        (lambda x: math.log(x), 1e-4, 1e4),
    ],
)
def test_slopes_of_smooth_functions_are_within_their_estimate(function, x, slope):
    found = estimate(function, x)
    assert abs(found.value - slope) <= 20 * found.error + 1e-9 * abs(slope)
    assert found.error < 1e-4 * abs(slope)


def test_a_kink_is_uncertain_and_shows_both_slopes():
    found = estimate(abs, 0.0)
    assert found.error > 0.4
    assert (found.left, found.right) == pytest.approx((-1.0, 1.0))


def test_a_kink_close_by_does_not_hurt():
    found = estimate(abs, 1e-5)
    assert found.value == pytest.approx(1.0)
    assert found.error < 1e-6


def test_a_staircase_is_constant():
    found = estimate(round, 0.3)
    assert found.constant
    assert found.value == 0.0


def test_single_precision_inside_is_no_staircase_and_is_uncertain():
    found = estimate(lambda x: float(np.sin(np.float32(x))), 0.7)
    assert not found.constant
    assert abs(found.value - math.cos(0.7)) <= 8 * found.error


def test_where_the_function_ends_nothing_is_known():
    found = ladder(lambda h: None, step=1e-3, accuracy=1e-9, noise=0.0)
    assert not found.usable


def test_a_step_far_wider_than_what_happens_is_uncertain():
    found = estimate(lambda x: x / math.sqrt(x * x + 1e-24), 0.0)
    assert not found.usable or found.error > 0.1 * abs(found.value)


def test_what_changes_by_its_rounding_alone_has_the_slope_zero_and_is_not_called_constant():
    found = estimate(lambda x: 1.0 + 1e-16 * math.floor(1e9 * x) % 2e-16, 0.3)
    found_on_a_ray = estimate(lambda x: (3 * x) / math.hypot(3 * x, 4 * x), 0.7)
    for slope in (found, found_on_a_ray):
        assert slope.value == 0.0
        assert slope.error < 1e-9
