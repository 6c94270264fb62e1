"""The error of a gradient over its argument, small enough for a report."""

from __future__ import annotations

import json

import pytest
import torch

from gradsmith.check import check
from gradsmith.check.error_map import LARGEST, MOST, error_map


@pytest.mark.parametrize(
    ("shape", "rows", "columns"),
    [((), 1, 1), ((5,), 1, 5), ((3, 2), 3, 2), ((4, 3, 2), 12, 2), ((1000, 70), 32, 24), ((33, 33), 17, 17)],
)
def test_dimensions_before_the_last_are_laid_out_one_under_the_other_in_few_cells(shape, rows, columns):
    found = error_map(torch.zeros(shape), torch.ones(shape))
    assert (len(found["worst"]), len(found["worst"][0])) == (rows, columns)
    assert rows <= MOST
    assert columns <= MOST
    assert {cell for row in found["worst"] for cell in row} == {1.0}


def test_one_wrong_element_of_a_million_is_still_seen():
    expected = torch.ones(1000, 1000)
    got = expected.clone()
    got[700, 300] = 1.5
    found = error_map(got, expected)
    cells = [cell for row in found["worst"] for cell in row]
    assert sorted(cells)[-2:] == [0.0, 0.5]
    assert found["worst"][700 // found["block"][0]][300 // found["block"][1]] == 0.5


def test_what_was_not_looked_at_and_what_is_no_number_are_told_apart_and_fit_json():
    nan, inf = torch.nan, torch.inf
    found = error_map(torch.tensor([0.0, inf, nan, 1.0]), torch.tensor([nan, 1.0, 1.0, 1.0]))
    assert found["worst"] == [[None, LARGEST, LARGEST, 0.0]]
    json.dumps(found, allow_nan=False)


class Sines(torch.autograd.Function):
    """Wrong for `y` in the second row."""

    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x, y)
        ctx.kept = x > 0
        return x.sin() * y.exp()

    @staticmethod
    def backward(ctx, grad):
        x, y = ctx.saved_tensors
        wrong = torch.ones_like(y)
        wrong[1] = 1.25
        return grad * x.cos() * y.exp(), grad * x.sin() * y.exp() * wrong


def inputs():
    generator = torch.Generator().manual_seed(3)
    return tuple((torch.rand(3, 4, generator=generator, dtype=torch.float64) + 0.5).requires_grad_() for _ in range(2))


@pytest.fixture(scope="module")
def report():
    return check(Sines, inputs()).to_dict()


def test_a_wrong_gradient_has_its_map_in_the_evidence(report):
    (error,) = [f["evidence"]["error_map"] for f in report["findings"] if f["code"] == "gradient-wrong"]
    assert error["shape"] == [3, 4]
    assert [max(row) > 1e-3 for row in error["worst"]] == [False, True, False]


def test_the_taylor_remainder_of_a_right_gradient_falls_with_slope_3_and_of_a_wrong_one_with_1(report):
    slopes = {entry["argument"]: entry["slope"] for entry in report["taylor"]}
    assert slopes["x"] == pytest.approx(3, abs=0.1)
    assert slopes["y"] == pytest.approx(1, abs=0.1)


def test_where_only_rounding_remains_there_is_no_slope():
    class Twice(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return 2 * x

        @staticmethod
        def backward(ctx, grad):
            return 2 * grad

    (entry,) = check(Twice, inputs()[:1], only="gradient-wrong").to_dict()["taylor"]
    assert entry["slope"] is None


def test_what_is_saved_is_listed_with_its_size_and_lifetime(report):
    saved = {entry["tensor"]: (entry["bytes"], entry["until"]) for entry in report["saved"]}
    assert saved["`x`"] == saved["`y`"] == (96, "the backward has run")
    assert saved["ctx.kept, an intermediate"] == (12, "the graph is gone")
