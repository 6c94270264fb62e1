"""straight_through: the value of the forward, the gradient of the identity or of a mask."""

import pytest
import torch
from routes import POINTS, assert_differentiates_as, slope
from torch.nn import functional

from gradsmith import CallError, DefinitionError, MissingFormula, Op
from gradsmith.surrogates import straight_through


@pytest.mark.parametrize(
    ("mask", "declared"), [("identity", lambda x: x * 1), ("hardtanh", functional.hardtanh), ("relu", torch.relu)]
)
def test_the_gradient_is_that_of_the_declared_function_by_every_route(mask, declared):
    inside = POINTS[POINTS.abs() != 1]  # at the ends of hardtanh torch takes 0, the estimator 1
    assert_differentiates_as(straight_through(torch.sign, mask=mask), declared, inside)


def test_the_clip_includes_its_ends():
    ends = torch.tensor([-1.0, 1.0, -1.0001, 1.0001])
    assert torch.equal(slope(straight_through(torch.sign, mask="hardtanh"), ends), torch.tensor([1.0, 1.0, 0.0, 0.0]))


def test_a_mask_may_be_a_function_and_is_differentiated_in_a_second_derivative():
    def bi_real(x):  # Liu et al. 2018
        return (2 - 2 * x.abs()).relu()

    op = straight_through(torch.sign, mask=bi_real)
    x = torch.tensor([-2.0, -0.25, 0.5], requires_grad=True)
    (grad,) = torch.autograd.grad(op(x).sum(), x, create_graph=True)
    assert torch.equal(grad, bi_real(x))
    assert torch.equal(torch.autograd.grad(grad.sum(), x)[0], torch.tensor([0.0, 2.0, -2.0]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_the_value_is_that_of_the_forward_bit_by_bit(dtype):
    def clamp(x):
        return x.clamp(-0.1, 0.1)

    x = (torch.randn(10_000) * 100).to(dtype)
    assert torch.equal(straight_through(clamp)(x), clamp(x))
    assert straight_through(clamp)(x).dtype == dtype


def test_infinite_inputs_stay_finite_where_the_forward_is():
    out = straight_through(lambda x: x.clamp(-1, 1))(torch.tensor([torch.inf, -torch.inf]))
    assert torch.equal(out, torch.tensor([1.0, -1.0]))


def test_the_identity_saves_nothing_and_a_mask_the_argument():
    assert straight_through(torch.round).saves() == ()
    assert straight_through(torch.sign, mask="hardtanh").saves() == ("x",)


def test_it_decorates_with_and_without_options_and_keeps_the_name():
    @straight_through
    def one(v):
        return v.round()

    @straight_through(mask="relu")
    def two(v):
        return v.round()

    assert isinstance(one, Op)
    assert (one.name, two.name) == ("one", "two")
    assert two.saves() == ("v",)


def test_further_arguments_are_passed_on_and_their_gradient_is_refused():
    @straight_through
    def quantise(x, step=1.0):
        return (x / step).round() * step

    x = torch.tensor([0.3], requires_grad=True)
    assert quantise(x, step=0.25).item() == 0.25
    step = torch.tensor(0.25, requires_grad=True)
    with pytest.raises(MissingFormula, match=r"quantise.*`step`"):
        torch.autograd.grad(quantise(x, step).sum(), step)


def test_an_unknown_mask_is_refused_with_the_known_ones():
    with pytest.raises(DefinitionError, match=r"'tanh'.*'identity', 'hardtanh', 'relu'"):
        straight_through(torch.sign, mask="tanh")


def test_a_forward_without_a_positional_argument_is_refused():
    with pytest.raises(DefinitionError, match="must take a tensor"):
        straight_through(lambda: 1)


def test_a_comparison_which_autograd_would_drop_is_refused_with_what_to_do():
    @straight_through
    def positive(x):
        return x > 0

    with pytest.raises(CallError, match=r"positive returned torch.bool for an argument of torch.float32.*x\.dtype"):
        positive(torch.randn(3, requires_grad=True))


def test_a_forward_that_changes_the_shape_is_refused():
    def total(x):
        return x.sum()

    with pytest.raises(CallError, match=r"total returned the shape \(\) for an argument of \(3,\)"):
        straight_through(total)(torch.randn(3, requires_grad=True))


@pytest.mark.slow
def test_a_compiled_call_keeps_the_estimator():
    op = straight_through(torch.round)
    compiled = torch.compile(lambda x: op(x).square().sum(), fullgraph=True, backend="aot_eager")
    x = torch.tensor([0.4, 1.6], requires_grad=True)
    assert torch.equal(torch.autograd.grad(compiled(x), x)[0], torch.tensor([0.0, 4.0]))
