"""What rounding alone makes of a value: measured, and told from a difference that is real."""

from __future__ import annotations

import pytest
import torch

from gradsmith.check.case import Case
from gradsmith.check.rounding import agree, gradient, gradients, outputs, rounding_in
from gradsmith.check.subject import Subject

VALUES = torch.tensor([0.3, -1.2, 0.7, 2.1], dtype=torch.float64)


def subject_of(function, *inputs: torch.Tensor) -> Subject:
    return Subject(Case(function, tuple(x.clone().requires_grad_() for x in inputs), {}, function.__name__))


def cosine(x, y):
    return torch.nn.functional.cosine_similarity(x, y, dim=-1)


def square(x):
    return x * x


def test_a_gradient_that_cancels_is_within_its_rounding():
    subject = subject_of(cosine, VALUES, VALUES)
    floor = rounding_in(subject, gradients)
    assert all(float(grad.abs().max()) <= allowed for grad, allowed in zip(subject.base_grads, floor, strict=True))
    assert max(floor) < 1e-12


def test_the_rounding_of_what_does_not_cancel_is_small_against_it():
    subject = subject_of(square, VALUES)
    (floor,) = rounding_in(subject, gradients)
    assert 0 < floor < 1e-12


def test_a_jump_of_the_gradient_at_a_kink_is_no_rounding():
    subject = subject_of(torch.nn.functional.hardtanh, torch.tensor([1.0, -1.0, 0.5], dtype=torch.float64))
    (floor,) = rounding_in(subject, gradient(0))
    assert floor < 1e-12


def test_zeros_stay_zeros_and_ties_ties():
    subject = subject_of(torch.maximum, torch.tensor([0.0, 1.0, 1.3], dtype=torch.float64), torch.zeros(3) + 1.0)
    assert max(rounding_in(subject, gradients)) < 1e-12


def test_the_upstream_is_rounded_as_well():
    """A gradient that does not look at the input: all its rounding is the upstream's."""

    def centred(x):
        return x - x.sum(-1, keepdim=True) / 7

    subject = subject_of(centred, VALUES)
    (floor,) = rounding_in(subject, gradients, [torch.full_like(VALUES, 0.1)])
    assert 0 < floor < 1e-12


@pytest.mark.parametrize("off", [0.0, 1e-17])
def test_runs_agree_that_differ_by_rounding(off: float):
    subject = subject_of(cosine, VALUES, VALUES)
    assert agree(subject, subject.base_grads, [grad + off for grad in subject.base_grads], gradients)


@pytest.mark.parametrize("off", [1e-8, 1e-6, 1.0])
def test_runs_do_not_agree_that_differ_by_more(off: float):
    subject = subject_of(cosine, VALUES, VALUES)
    assert not agree(subject, subject.base_grads, [grad + off for grad in subject.base_grads], gradients)
    assert not agree(subject, subject.base.outputs, [out + off for out in subject.base.outputs], outputs)


def test_a_sample_that_is_refused_counts_for_nothing():
    def picky(x):
        if bool((x > 1).any()):
            raise ValueError("beyond 1")
        return x * x

    subject = subject_of(picky, torch.tensor([1.0, 0.5], dtype=torch.float64))
    (floor,) = rounding_in(subject, gradients)
    assert 0 < floor < 1e-12
