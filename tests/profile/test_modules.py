"""Bytes saved, by the module that saves them."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from gradsmith.profile.modules import OUTSIDE, saved_by_module

FLOAT = 4


def test_each_storage_counts_for_the_innermost_module_that_saves_it_first() -> None:
    model = nn.Sequential(nn.Linear(20, 30, bias=False), nn.ReLU(), nn.Linear(30, 10, bias=False))
    x = torch.randn(5, 20)
    counts = saved_by_module(model, lambda: model(x))
    # The ReLU saves its output, which the second layer saves again, for nothing; that one saves its weight, too.
    assert counts == {"0": 5 * 20 * FLOAT, "1": 5 * 30 * FLOAT, "2": 30 * 10 * FLOAT}


def test_what_the_model_does_between_its_modules_counts_for_the_model() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x).sin()

    model = Scaled()
    counts = saved_by_module(model, lambda: model(torch.randn(2, 3)))
    assert counts == {"layer": 6 * FLOAT, "": 6 * FLOAT}


def test_what_a_loss_saves_is_outside_the_model() -> None:
    model = nn.Linear(3, 3)
    counts = saved_by_module(model, lambda: functional.mse_loss(model(torch.randn(2, 3)), torch.zeros(2, 3)))
    assert counts == {"": 6 * FLOAT, OUTSIDE: 2 * 6 * FLOAT}


def test_buffers_and_random_numbers_are_left_as_they_were() -> None:
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout())
    mean, state = model[0].running_mean.clone(), torch.get_rng_state()
    saved_by_module(model, lambda: model(torch.randn(8, 3)))
    assert torch.equal(model[0].running_mean, mean)
    assert torch.equal(torch.get_rng_state(), state)


def test_hooks_are_removed_even_after_an_error() -> None:
    model = nn.Sequential(nn.Linear(3, 3))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        saved_by_module(model, lambda: model(torch.randn(2, 5)))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
