"""Bytes saved: every storage once, arguments apart."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gradsmith.catalog.linear import linear
from gradsmith.profile.saved import Saved, bytes_of, saved
from gradsmith.profile.work import Work

FLOAT = 4


def test_a_saved_input_is_no_new_memory() -> None:
    x = torch.randn(100, requires_grad=True)
    assert saved(Work("sin", torch.sin, (x,))) == Saved(100 * FLOAT, 0)


def test_a_saved_result_is_new_memory() -> None:
    x = torch.randn(100, requires_grad=True)
    assert saved(Work("exp", torch.exp, (x,))) == Saved(100 * FLOAT, 100 * FLOAT)


def test_a_storage_saved_twice_counts_once() -> None:
    x = torch.randn(10, 10, requires_grad=True)
    assert saved(Work("f", lambda x: x * x.t(), (x,))) == Saved(100 * FLOAT, 0)


def test_a_view_counts_as_the_storage_that_it_keeps() -> None:
    x = torch.randn(100, requires_grad=True)
    assert saved(Work("f", lambda x: x[:1].sin(), (x,))).total == 100 * FLOAT


def test_parameters_are_no_new_memory_and_frozen_ones_need_no_input() -> None:
    layer = nn.Linear(20, 30)
    x = torch.randn(5, 20, requires_grad=True)
    assert saved(Work("layer", layer, (x,))) == Saved((20 * 30 + 5 * 20) * FLOAT, 0)
    layer.requires_grad_(False)
    assert saved(Work("layer", layer, (x,))) == Saved(20 * 30 * FLOAT, 0)


def test_what_an_op_saves_is_what_it_explains() -> None:
    x, w = torch.randn(5, 20, requires_grad=True), torch.randn(30, 20, requires_grad=True)
    assert saved(Work("linear", linear, (x, w))).total == linear.explain(x, w).bytes


def test_nothing_is_saved_without_a_gradient() -> None:
    assert saved(Work("exp", torch.exp, (torch.randn(100),))) == Saved(0, 0)


def test_a_tensor_kept_on_ctx_by_assignment_is_not_seen() -> None:
    """The documented limit: no hook sees it."""

    class Keeps(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            ctx.kept = x.exp()
            return ctx.kept.clone()

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            return grad * ctx.kept

    assert saved(Work("keeps", Keeps.apply, (torch.randn(100, requires_grad=True),))) == Saved(0, 0)


def test_sparse_tensors_count_by_their_elements() -> None:
    x = torch.eye(3).to_sparse().requires_grad_()
    assert saved(Work("mm", torch.sparse.mm, (x, torch.ones(3, 2, requires_grad=True)))).total > 0


def test_the_same_elements_given_twice_are_one_tensor() -> None:
    x = torch.ones(4)
    assert bytes_of([x, x, x[:2]]) == 6 * FLOAT
