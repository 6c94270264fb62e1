"""The map of errors over an argument."""

from __future__ import annotations

import pytest

from gradsmith.check.report.heatmap import LEVELS, MOST, heat_map


@pytest.mark.parametrize(
    ("error", "level"), [(0.0, 0), (9e-6, 0), (5e-5, 1), (5e-4, 2), (5e-3, 3), (5e-2, 4), (-2.0, 5), (float("inf"), 5)]
)
def test_a_level_for_each_power_of_ten(error, level):
    assert heat_map([[error]]).rows == ((level,),)
    assert level < len(LEVELS)


def test_what_was_not_looked_at_has_no_level():
    assert heat_map([[float("nan"), 1.0]]).rows == ((None, 5),)


@pytest.mark.parametrize(
    ("errors", "shape", "rows"),
    [
        (0.5, (), 1),
        ([0.5, 0.5], (2,), 1),
        ([[0.5, 0.5]] * 3, (3, 2), 3),
        ([[[0.5, 0.5]] * 3] * 4, (4, 3, 2), 12),
        ([], (0,), 0),
    ],
)
def test_dimensions_before_the_last_are_laid_out_one_under_the_other(errors, shape, rows):
    found = heat_map(errors)
    assert (found.shape, len(found.rows)) == (shape, rows)


def test_one_wrong_element_of_many_is_still_seen():
    errors = [[0.0] * 1000 for _ in range(1000)]
    errors[700][300] = 1.0
    found = heat_map(errors)
    assert len(found.rows) <= MOST
    assert max(map(len, found.rows)) <= MOST
    assert [level for row in found.rows for level in row].count(5) == 1
    assert "1 of 1,000,000 elements wrong; a cell shows the worst of 21 x 21" in found.described
