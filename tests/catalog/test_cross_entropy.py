"""cross_entropy: the signature and the results of torch's, with the gradient by hand."""

import math

import pytest
import torch
from agreement import assert_agrees, gradients, saved_bytes
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional

from gradsmith.catalog import cross_entropy

REDUCTIONS = ("none", "sum", "mean")


@st.composite
def problems(draw):
    """Shapes, kinds of targets and options; some rows ignored, some probabilities that do not add up to one."""
    classes = draw(st.integers(1, 5))
    shape = draw(st.one_of(st.just(None), st.lists(st.integers(0, 3), min_size=1, max_size=3)))
    row_shape = () if shape is None else tuple(shape)
    logit_shape = (classes,) if shape is None else (shape[0], classes, *shape[1:])
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    logits = torch.randn(logit_shape, generator=generator, dtype=dtype) * draw(st.sampled_from([1.0, 30.0]))
    probabilities = draw(st.booleans())
    ignore_index = draw(st.sampled_from([-100, 0]))
    if probabilities:
        ignore_index = -100
        targets = torch.rand(logit_shape, generator=generator, dtype=dtype)
    else:
        targets = torch.randint(0, classes, row_shape, generator=generator)
        ignored = torch.rand(row_shape, generator=generator) < draw(st.sampled_from([0.0, 0.3]))
        targets = targets.masked_fill(ignored, ignore_index)
    weight = torch.rand(classes, generator=generator, dtype=dtype) + 0.1 if draw(st.booleans()) else None
    options = {
        "ignore_index": ignore_index,
        "reduction": draw(st.sampled_from(REDUCTIONS)),
        "label_smoothing": draw(st.sampled_from([0.0, 0.1, 1.0])),
    }
    return logits, targets, weight, options


@settings(max_examples=150, deadline=None)
@given(problems())
def test_value_and_derivatives_are_those_of_torch_in_every_option(problem):
    logits, targets, weight, options = problem
    inputs = (logits, targets, weight) if targets.is_floating_point() else (logits,)
    inputs = tuple(value for value in inputs if value is not None)
    if options["reduction"] == "mean" and not targets.is_floating_point():
        # torch's second derivative of 0/0 is NaN, ours is that of the gradient 0: see below.
        assume(bool((targets != options["ignore_index"]).any()))
    fixed = () if targets.is_floating_point() else (targets,)

    def call(function):
        def of(*tensors):
            args = [*tensors, *fixed]
            return function(args[0], args[1], weight=(args[2] if len(args) > 2 else weight), **options)

        return of

    tolerance = {"rtol": 1e-3, "atol": 1e-4} if logits.dtype == torch.float32 else {"rtol": 1e-7, "atol": 1e-9}
    assert_agrees(call(cross_entropy), call(functional.cross_entropy), inputs, **tolerance)


def test_the_numbers_of_the_tutorial():
    logits = torch.tensor([[0.2, 0.3, 0.9], [0.2, 0.3, 0.9]], requires_grad=True)
    loss = cross_entropy(logits, torch.tensor([0, 0]))
    (grad,) = torch.autograd.grad(loss, logits)
    assert loss.item() == pytest.approx(1.4156, abs=5e-5)
    torch.testing.assert_close(grad, torch.tensor([[-0.3786, 0.1342, 0.2445]] * 2), rtol=0, atol=5e-5)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
def test_the_gradient_of_class_weights_is_right_where_torch_refuses_it(reduction, label_smoothing):
    logits = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.rand(3, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([0, 2, 2, -100])

    def loss(logits, weight):
        return cross_entropy(logits, targets, weight, reduction=reduction, label_smoothing=label_smoothing)

    assert gradcheck(loss, (logits, weight), check_forward_ad=True)
    assert gradgradcheck(loss, (logits, weight))


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_numerical_differentiation_agrees_for_probabilities(reduction):
    logits, targets = (torch.rand(3, 4, 2, dtype=torch.float64, requires_grad=True) for _ in range(2))

    def loss(logits, targets):
        return cross_entropy(logits, targets, reduction=reduction, label_smoothing=0.1)

    assert gradcheck(loss, (logits, targets), check_forward_ad=True)
    assert gradgradcheck(loss, (logits, targets))


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_of_all_rows_ignored_the_mean_is_nan_and_the_gradient_zero_as_torch_has_it(label_smoothing):
    logits = torch.randn(3, 4, requires_grad=True)
    loss = cross_entropy(logits, torch.full((3,), -100), label_smoothing=label_smoothing)
    assert math.isnan(loss.item())
    (grad,) = torch.autograd.grad(loss, logits, create_graph=True)
    assert torch.equal(grad, torch.zeros(3, 4))
    assert torch.equal(torch.autograd.grad(grad.sum(), logits)[0], torch.zeros(3, 4))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("targets", [torch.zeros(0, dtype=torch.long), torch.zeros(0, 3)])
def test_no_rows_give_an_empty_gradient(reduction, targets):
    logits = torch.zeros(0, 3, requires_grad=True)
    loss = cross_entropy(logits, targets, reduction=reduction)
    torch.testing.assert_close(
        loss, functional.cross_entropy(logits, targets, reduction=reduction), equal_nan=True, rtol=0, atol=0
    )
    assert torch.autograd.grad(loss.sum(), logits)[0].shape == (0, 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_huge_logits_give_finite_losses_and_gradients(dtype):
    logits = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4]], dtype=dtype, requires_grad=True)
    loss = cross_entropy(logits, torch.tensor([1, 1]), reduction="sum")
    (grad,) = torch.autograd.grad(loss, logits)
    assert loss.isfinite()
    torch.testing.assert_close(grad, torch.tensor([[1.0, -1.0, 0.0], [0.0, -0.5, 0.5]], dtype=dtype))


def test_classes_masked_by_minus_infinity_get_the_gradient_zero():
    logits = torch.tensor([[1.0, -torch.inf, 2.0]], requires_grad=True)
    (grad,) = torch.autograd.grad(cross_entropy(logits, torch.tensor([0])), logits)
    assert grad.isfinite().all()
    assert grad[0, 1] == 0


@pytest.mark.parametrize(("dtype", "unit"), [(torch.bfloat16, 2**-8), (torch.float16, 2**-10)])
@pytest.mark.parametrize("kind", ["indices", "probabilities"])
@pytest.mark.parametrize("rows", [7, 3000])
def test_in_low_precision_the_gradient_is_within_rounding_of_float64(dtype, unit, kind, rows):
    logits = (torch.randn(rows, 11) * 4).to(dtype)
    targets = torch.randint(0, 11, (rows,)) if kind == "indices" else torch.rand(rows, 11).softmax(1).to(dtype)
    exact = targets if kind == "indices" else targets.double()
    (got,) = gradients(lambda x: cross_entropy(x, targets, reduction="sum"), (logits,))
    (want,) = gradients(lambda x: functional.cross_entropy(x, exact, reduction="sum"), (logits.double(),))
    assert got.dtype == dtype
    torch.testing.assert_close(got.double(), want, rtol=unit, atol=unit / 4 * (kind == "probabilities") + 1e-6)


def test_the_mean_over_more_rows_than_half_precision_can_count_is_right():
    logits = torch.zeros(70_000, 2, dtype=torch.float16)
    (got,) = gradients(lambda x: cross_entropy(x, torch.zeros(70_000, dtype=torch.long)) * 1000, (logits,))
    torch.testing.assert_close(got[0].double(), torch.tensor([-0.5, 0.5], dtype=torch.float64) / 70, rtol=1e-3, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["indices", "probabilities"])
def test_it_saves_no_more_than_torch(dtype, weighted, kind):
    logits = torch.randn(64, 100, dtype=dtype, requires_grad=True)
    targets = torch.randint(0, 100, (64,)) if kind == "indices" else torch.rand(64, 100, dtype=dtype)
    weight = torch.rand(100, dtype=dtype) if weighted else None
    ours, theirs = (
        saved_bytes(lambda f=function: f(logits, targets, weight))
        for function in (cross_entropy, functional.cross_entropy)
    )
    assert ours <= theirs


def test_the_backward_writes_to_no_argument():
    logits = torch.randn(4, 3, requires_grad=True)
    before = logits.detach().clone()
    loss = cross_entropy(logits, torch.tensor([0, 1, 2, 0]), label_smoothing=0.1)
    first = torch.autograd.grad(loss, logits, retain_graph=True)[0]
    second = torch.autograd.grad(loss, logits)[0]
    assert torch.equal(logits, before)
    assert torch.equal(first, second)


@pytest.mark.parametrize("in_dims", [(0, 0), (0, None), (None, 0)])
def test_vmap_and_per_example_gradients_agree_with_torch(in_dims):
    logits = torch.randn(5, 4, 3)[slice(None) if in_dims[0] == 0 else 0]
    targets = torch.randint(0, 3, (5, 4))[slice(None) if in_dims[1] == 0 else 0]

    def per_example(function):
        return torch.func.vmap(torch.func.grad(function), in_dims)(logits, targets)

    torch.testing.assert_close(per_example(cross_entropy), per_example(functional.cross_entropy))


def test_a_batch_of_upstream_gradients_is_one_call_of_the_formula():
    logits = torch.randn(4, 3, requires_grad=True)
    loss = cross_entropy(logits, torch.tensor([0, 1, 2, 0]), reduction="none")
    rows = torch.autograd.grad(loss, logits, torch.eye(4), is_grads_batched=True)[0]
    torch.testing.assert_close(rows.sum(0), (logits.softmax(1) - torch.eye(3)[[0, 1, 2, 0]]).detach())


def test_hessian_and_forward_mode_agree_with_torch():
    logits, tangent, targets = torch.randn(3, 4), torch.randn(3, 4), torch.tensor([0, 3, 1])

    def results(function):
        def loss(z):
            return function(z, targets)

        return torch.func.hessian(loss)(logits), torch.func.jvp(loss, (logits,), (tangent,))

    torch.testing.assert_close(results(cross_entropy), results(functional.cross_entropy))


@pytest.mark.slow
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_a_compiled_call_keeps_the_formula(label_smoothing):
    logits, targets = torch.randn(4, 3, requires_grad=True), torch.tensor([0, 1, -100, 0])

    def loss(logits, targets):
        return cross_entropy(logits, targets, label_smoothing=label_smoothing) * 2

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(
        torch.autograd.grad(compiled(logits, targets), logits), torch.autograd.grad(loss(logits, targets), logits)
    )


@pytest.mark.parametrize(
    ("targets", "options", "error"),
    [
        (torch.tensor([0, 7]), {}, IndexError),
        (torch.tensor([0, 1, 2]), {}, ValueError),
        (torch.tensor([0, 1], dtype=torch.int32), {}, RuntimeError),
        (torch.rand(2, 3), {"ignore_index": 1}, RuntimeError),
        (torch.tensor([0, 1]), {"reduction": "median"}, ValueError),
        (torch.tensor([0, 1]), {"label_smoothing": 1.5}, RuntimeError),
    ],
)
def test_what_torch_refuses_is_refused_with_its_words(targets, options, error):
    logits = torch.randn(2, 3, requires_grad=True)
    with pytest.raises(error) as theirs:
        functional.cross_entropy(logits, targets, **options)
    with pytest.raises(error) as ours:
        cross_entropy(logits, targets, **options)
    assert str(ours.value) == str(theirs.value)
