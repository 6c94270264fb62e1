"""The map of errors over an argument, as levels."""

from __future__ import annotations

import pytest

from gradsmith.check.report.heatmap import LEVELS, heat_map


def mapped(*worst, shape=(1, 1), block=(1, 1)):
    return heat_map({"shape": list(shape), "block": list(block), "worst": [list(row) for row in worst]})


@pytest.mark.parametrize(
    ("error", "level"), [(0.0, 0), (9e-6, 0), (5e-5, 1), (5e-4, 2), (5e-3, 3), (5e-2, 4), (2.0, 5), (1e9, 5)]
)
def test_a_level_for_each_power_of_ten(error, level):
    assert mapped([error]).rows == ((level,),)
    assert level < len(LEVELS)


def test_what_was_not_looked_at_has_no_level():
    assert mapped([None, 1.0]).rows == ((None, 5),)


def test_it_says_in_words_what_it_shows():
    found = mapped([0.0, 1.0], [None, 0.0], shape=(50, 60), block=(25, 30))
    assert found.described == (
        "relative error over shape (50, 60): 1 of 4 cells wrong; a cell shows the worst of 25 x 30"
    )
