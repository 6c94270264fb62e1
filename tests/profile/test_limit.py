"""The bytes and operations that no implementation can do without, and the time they take at best."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from gradsmith.profile.limit import Limit, Yardstick, flops, traffic
from gradsmith.profile.timing import Round, Sample
from gradsmith.profile.work import Work


def test_traffic_is_arguments_outputs_upstream_and_gradients_once() -> None:
    x = torch.randn(1000, requires_grad=True)
    assert traffic(Work("exp", torch.exp, (x,))) == 4 * 4000
    assert traffic(Work("exp", torch.exp, (x.detach(),))) == 2 * 4000


def test_an_output_that_is_an_argument_moves_nothing_more() -> None:
    x = torch.randn(1000)
    assert traffic(Work("same", lambda x: x, (x,))) == 4000


def test_operations_are_those_of_the_matrix_products() -> None:
    x, w = torch.randn(8, 16, requires_grad=True), torch.randn(4, 16, requires_grad=True)
    assert flops(Work("linear", functional.linear, (x, w))) == 3 * 2 * 8 * 16 * 4
    assert flops(Work("exp", torch.exp, (x,))) == 0


def test_the_limit_scales_the_measured_rates_to_the_work() -> None:
    x, w = torch.randn(64, 512, requires_grad=True), torch.randn(512, 512, requires_grad=True)
    yardstick = Yardstick(Work("linear", functional.linear, (x, w)))
    assert yardstick.product is not None
    copied = 2 * yardstick.copy.arguments[0].nbytes
    side = yardstick.product.arguments[0].shape[0]
    samples = {yardstick.copy: Sample(copied / 1e9, 0.0), yardstick.product: Sample(2 * side**3 / 1e12, 0.0)}
    limit = yardstick.limit([Round(samples, 0.0)])
    assert limit.memory == pytest.approx(limit.bytes / 1e9)
    assert limit.matmul == pytest.approx(limit.flops / 1e12)
    assert limit.seconds == max(limit.memory, limit.matmul)


def test_without_a_matrix_product_none_is_timed() -> None:
    yardstick = Yardstick(Work("exp", torch.exp, (torch.randn(10),)))
    assert yardstick.works == [yardstick.copy]


def test_the_bound_is_the_slower_of_the_two() -> None:
    assert Limit(1, 1, memory=2.0, matmul=1.0).bound == "memory"
    assert Limit(1, 1, memory=1.0, matmul=2.0).bound == "matmul"


def test_the_matrix_product_has_the_dtype_of_the_work() -> None:
    x = torch.randn(4, 4, dtype=torch.bfloat16)
    yardstick = Yardstick(Work("mm", torch.mm, (x, x)))
    assert yardstick.product is not None
    assert yardstick.product.arguments[0].dtype == torch.bfloat16
