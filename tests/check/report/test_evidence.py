"""Evidence as a person reads it."""

from __future__ import annotations

from dataclasses import replace

from gradsmith.check.report.evidence import MAP, pairs, plain, worst_element


def test_the_worst_element_is_a_row(error):
    assert worst_element(error) == [
        ("element", "[0, 2]"),
        ("got", "1.23457"),
        ("expected", "0.617284"),
        ("ratio", "2"),
    ]


def test_the_row_leaves_out_what_is_not_known(error):
    unknown = replace(error, evidence={**error.evidence, "ratio": None})
    assert "ratio" not in dict(worst_element(unknown))


def test_the_rest_says_how_many_elements_and_where_the_truth_comes_from(error):
    assert pairs(error) == [
        ("wrong", "12 of 12 elements"),
        ("derivative from", "autodiff of the forward itself, known to 1e-12"),
    ]


def test_elements_not_looked_at_are_admitted(error):
    sampled = replace(error, evidence={**error.evidence, "elements": 4096, "elements_looked_at": 24})
    assert dict(pairs(sampled))["wrong"] == "12 of the 24 elements looked at, of 4,096"


def test_nothing_that_a_check_says_is_lost(error):
    odd = replace(error, evidence={"got": [1, 2], "frames_seen": 3, "nothing": None, MAP: [[0.5]]})
    assert pairs(odd) == [("got", "[1, 2]"), ("frames seen", "3")]


def test_values_are_short():
    assert plain([1.0, (2, "a"), 1 / 3]) == "[1, (2, a), 0.333333]"
    assert plain({"x": [4, 3], "bias": [1]}) == "x [4, 3], bias [1]"
