"""Memory that was never written is found by what comes out where it is filled, however it was allocated."""

from __future__ import annotations

import pytest
import torch

from gradsmith.check.case import Case
from gradsmith.check.subject import Subject
from gradsmith.check.unwritten import unwritten

X = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], requires_grad=True)


class LastColumnMissing(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, grad):
        out = torch.empty_like(grad)
        out[:, :2] = 2 * grad[:, :2]
        return out


class Raises(LastColumnMissing):
    @staticmethod
    def backward(ctx, grad):
        if not bool(torch.empty_like(grad).isfinite().all()):
            raise ValueError("not finite")
        return 2 * grad


class Whole(LastColumnMissing):
    @staticmethod
    def backward(ctx, grad):
        return torch.empty_like(grad).copy_(2 * grad)


def test_the_elements_that_were_never_written_are_named():
    found = unwritten(Subject(Case.of(LastColumnMissing, (X,))))
    assert found is not None
    assert (found.position, found.output, found.elements, found.of, found.first) == (0, None, 2, 6, [0, 2])


def test_what_raises_on_it_is_found():
    found = unwritten(Subject(Case.of(Raises, (X,))))
    assert found is not None
    assert "not finite" in str(found.raised)


def test_what_is_written_is_not_found():
    assert unwritten(Subject(Case.of(Whole, (X,)))) is None


def test_an_output_is_looked_at_as_well():
    def forward(x):
        out = torch.empty(3)
        out[0] = x[0, 0]
        return out

    found = unwritten(Subject(Case(forward, (X,), {}, "forward")))
    assert found is not None
    assert (found.position, found.output, found.elements, found.of, found.first) == (None, 0, 2, 3, [1])


@pytest.mark.parametrize(
    "allocate",
    [
        torch.empty_like,
        lambda x: x.new_empty(x.shape),
        lambda x: torch.empty(x.shape),
        lambda x: torch.empty_strided(x.shape, (1, 2)),
        lambda x: x.new_empty_strided(x.shape, (1, 2)),
        lambda x: torch.empty_permuted(x.shape, (1, 0)),
        lambda x: torch.empty(x.shape, dtype=torch.bool).to(x.dtype),
        lambda x: torch.empty(x.shape, dtype=torch.int64).to(x.dtype),
        lambda x: torch.empty(x.shape, dtype=torch.complex64).real,
    ],
)
def test_every_way_to_allocate_is_seen(allocate):
    assert unwritten(Subject(Case(lambda x: x + allocate(x), (X,), {}, "forward"))) is not None
    assert unwritten(Subject(Case(lambda x: x + allocate(x).fill_(1), (X,), {}, "forward"))) is None
