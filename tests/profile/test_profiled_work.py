"""What one call with its backward is made of."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from gradsmith.define.op import op
from gradsmith.profile.work import ProfileError, Work, describe, name_of


def test_gradients_are_those_of_the_inputs_that_require_one() -> None:
    x, y = torch.tensor([2.0], requires_grad=True), torch.tensor([5.0])
    outputs, gradients = Work("mul", torch.mul, (x, y)).run()
    assert outputs == [torch.tensor([10.0])]
    assert len(gradients) == 1


def test_inputs_and_outputs_may_be_nested() -> None:
    x = torch.ones(3, requires_grad=True)
    work = Work("nested", lambda d, *, scale: {"a": [d["x"] * scale]}, ({"x": x},), {"scale": 2.0})
    assert work.run()[1][0].shape == (3,)


def test_parameters_of_a_module_and_of_its_methods_are_differentiated() -> None:
    layer = nn.Linear(3, 2)
    layer.bias.requires_grad_(False)
    x = torch.ones(4, 3)
    assert [g.shape for g in Work("layer", layer, (x,)).run()[1]] == [(2, 3)]
    assert [g.shape for g in Work("forward", layer.forward, (x,)).run()[1]] == [(2, 3)]


def test_the_upstream_gradient_is_random_but_the_same_every_time_and_one_for_a_scalar() -> None:
    x = torch.ones(5, requires_grad=True)
    first, second = (Work("exp", torch.exp, (x,)).upstream[0] for _ in range(2))
    assert torch.equal(first, second)
    assert first.std() > 0.1
    assert Work("sum", torch.sum, (x,)).upstream == [torch.tensor(1.0)]


def test_outputs_without_a_gradient_are_left_out() -> None:
    x = torch.randn(4, 3, requires_grad=True)
    assert Work("max", lambda x: torch.max(x, 1), (x,)).run()[1][0].shape == (4, 3)


def test_a_function_that_returns_no_tensor_is_refused_by_name() -> None:
    with pytest.raises(ProfileError, match="nothing returns no tensor"):
        Work("nothing", lambda x: None, (torch.ones(1),))


def test_a_function_that_cuts_the_gradient_is_refused_by_name() -> None:
    with pytest.raises(ProfileError, match=r"no output of cut has a gradient, though 1 of its inputs require one"):
        Work("cut", lambda x: x.detach(), (torch.ones(1, requires_grad=True),))


def test_the_inputs_are_described_in_a_line() -> None:
    x = torch.ones(2, 3, requires_grad=True)
    work = Work("f", lambda x, y, *, p: x, (x, torch.ones(2, dtype=torch.int64)), {"p": 0.5})
    assert describe(work) == "float32[2, 3]*, int64[2], 0.5"


def test_names_are_those_of_ops_functions_and_classes() -> None:
    def double(x: Tensor) -> Tensor:
        return 2 * x

    assert name_of(op(double, x=lambda grad: 2 * grad)) == "double"
    assert name_of(double) == "double"
    assert name_of(nn.Linear(1, 1)) == "Linear"
    assert name_of(partial(double)) == "partial"
