"""cross_entropy of many logits: the gradient in the forward, and in place of the logits on request."""

import gc
import weakref

import pytest
import torch
from agreement import saved_bytes
from half_precision import assert_within_rounding
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional
from torch_samples import samples

from gradsmith import check
from gradsmith.catalog import cross_entropy
from gradsmith.define.errors import CallError

TARGETS = torch.tensor([0, 2, 1, -100, 1])
OPTIONS = [
    {},
    {"reduction": "sum"},
    {"label_smoothing": 0.2},
    {"weight": torch.tensor([0.5, 0.0, 2.0], dtype=torch.float64), "label_smoothing": 0.1},
    {"weight": torch.tensor([0.5, 0.0, 2.0], dtype=torch.float64), "ignore_index": 2},
]


def logits_of(dtype=torch.float64, rows=5, classes=3):
    return torch.randn(rows, classes, dtype=torch.float32).to(dtype).requires_grad_()


def targets_for(options):
    return TARGETS.where(TARGETS >= 0, options.get("ignore_index", -100))


@pytest.mark.parametrize("options", [*OPTIONS, {"reduction": "none"}])
@pytest.mark.parametrize("inplace", [False, True])
def test_first_and_second_derivatives_agree_with_differences(options, inplace, at_any_size):
    targets = targets_for(options)

    def loss(x):
        return cross_entropy(x * 1, targets, inplace=inplace, **options)

    x = logits_of()
    torch.testing.assert_close(loss(x), functional.cross_entropy(x, targets, **options))
    assert gradcheck(loss, x, check_forward_ad=True)
    assert gradgradcheck(loss, x, check_fwd_over_rev=True)


@pytest.mark.parametrize("options", [*OPTIONS, {"reduction": "none"}])
@pytest.mark.parametrize("inplace", [False, True])
def test_the_checker_has_nothing_to_say(options, inplace, at_any_size):
    targets = targets_for(options)
    report = check(lambda x: cross_entropy(x * 1, targets, inplace=inplace, **options), (logits_of(),))
    assert report.findings == ()


@pytest.mark.parametrize("inplace", [False, True])
def test_the_checker_has_nothing_to_say_of_either_back_end_in_float32(inplace, backend):
    report = check(lambda x: cross_entropy(x * 1, TARGETS, inplace=inplace), (logits_of(torch.float32),))
    assert report.findings == ()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("inplace", [False, True])
def test_every_dtype_is_within_rounding_of_float64(dtype, reduction, label_smoothing, inplace, backend):
    if inplace and dtype == torch.float16:
        pytest.skip("refused: see below")
    targets = torch.randint(0, 203, (41,))
    targets[::5] = -100
    options = {"reduction": reduction, "label_smoothing": label_smoothing}
    assert_within_rounding(
        lambda x: cross_entropy(x * 1, targets, inplace=inplace, **options),
        lambda x: functional.cross_entropy(x, targets, **options),
        [(3 * torch.randn(41, 203)).to(dtype)],
        times=6,
    )


def test_the_gradient_is_saved_and_the_logits_are_free_to_go(backend):
    x = torch.randn(64, 100, requires_grad=True)
    assert saved_bytes(lambda: cross_entropy(x, torch.zeros(64).long())) == 4 * 64 * 100 + 8 * 64
    logits = x * 1
    alive = weakref.ref(logits)
    loss = cross_entropy(logits, torch.zeros(64).long())
    gc.disable()
    try:
        del logits
        assert alive() is None
    finally:
        gc.enable()
    loss.backward()


def test_a_scaled_upstream_and_a_second_backward_are_right(backend):
    x = logits_of(torch.float32)
    loss = cross_entropy(x, TARGETS)
    once = torch.autograd.grad(loss, x, retain_graph=True)[0]
    scaled = torch.autograd.grad(loss, x, torch.tensor(3.0), retain_graph=True)[0]
    again = torch.autograd.grad(loss, x)[0]
    assert torch.equal(once, again)
    torch.testing.assert_close(3 * once, scaled)


def test_in_float16_a_loss_scale_reaches_the_gradient_before_it_is_rounded(backend):
    x = torch.zeros(3000, 20).half().requires_grad_()
    scaled = cross_entropy(x, torch.zeros(3000).long()) * 1000
    got = torch.autograd.grad(scaled, x)[0]
    torch.testing.assert_close(got[0, 1].item(), 0.05 / 3, rtol=1e-3, atol=0)


# ---- in place --------------------------------------------------------------------------------------------------------


def test_in_place_the_logits_hold_the_gradient_and_no_other_tensor_does(backend):
    x = logits_of(torch.float32)
    logits = x * 1
    loss = cross_entropy(logits, TARGETS, inplace=True)
    (want,) = torch.autograd.grad(functional.cross_entropy(x, TARGETS), x)
    torch.testing.assert_close(logits.detach(), want)
    seen = []
    x.register_hook(lambda grad: seen.append(grad))
    loss.backward()
    torch.testing.assert_close(seen[0], want)


def test_in_place_of_a_view_too(backend):
    x = torch.randn(2, 3, 4, requires_grad=True)
    targets = torch.tensor([0, 3, 1, 2, 0, -100])
    for flat in (lambda base: base.view(-1, 4), lambda base: base.flatten(0, 1)):
        loss = cross_entropy(flat(x * 1), targets, inplace=True)
        want = torch.autograd.grad(functional.cross_entropy(x.view(-1, 4), targets), x)
        torch.testing.assert_close(torch.autograd.grad(loss, x), want)


@pytest.mark.parametrize("through", ["logits", "view", "base"])
def test_what_was_overwritten_refuses_to_be_differentiated(through, backend):
    x = torch.randn(2, 3, 4, requires_grad=True)
    base = x.view(6, 4) * 1 if through == "logits" else x * 1
    view = base if through == "logits" else base.view(-1, 4)
    loss = cross_entropy(view, torch.zeros(6).long(), inplace=True)
    with pytest.raises(CallError, match="overwritten with their gradient"):
        (view if through == "view" else base).sum().backward()
    loss.backward()


@pytest.mark.parametrize(
    ("make", "needs"),
    [
        (lambda x: x.tanh(), "TanhBackward0, which made `logits`, needs them"),
        (lambda x: x.tanh().view(-1, 3), "TanhBackward0, which made `logits`, needs them"),
        (lambda x: (x * 1, x), None),
    ],
)
def test_what_another_operation_needs_is_refused(make, needs, backend):
    x = logits_of(torch.float32)
    given = make(x)
    if needs is None:
        given = given[0]
        kept = given * torch.randn(3, requires_grad=True)
        needs = "another operation needs `logits` for its backward, or a view"
    before = given.detach().clone()
    with pytest.raises(CallError, match=needs):
        cross_entropy(given, TARGETS, inplace=True)
    assert torch.equal(given, before)
    (given if "Tanh" in needs else kept).sum().backward()


def test_what_torch_does_not_tell_of_is_noticed_in_the_backward(backend):
    x = logits_of(torch.float32)
    logits = x * 1
    other = logits * torch.randn(3, requires_grad=True)
    loss = cross_entropy(logits.view(-1, 3), TARGETS, inplace=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        (loss + other.sum()).backward()


@pytest.mark.parametrize("flat", [False, True])
def test_a_write_to_the_logits_afterwards_is_noticed(flat, backend):
    x = logits_of(torch.float32)
    logits = (x * 1).view(5, 3) if flat else x * 1
    loss = cross_entropy(logits, TARGETS, inplace=True)
    with torch.no_grad():
        logits.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize(
    ("logits", "targets", "options", "message"),
    [
        (lambda x: x, TARGETS, {}, "`logits` is a leaf"),
        (lambda x: x.half(), TARGETS, {}, "`logits` is torch.float16"),
        (lambda x: (x * 1).mT, torch.tensor([0, 1, 2]), {}, r"strides \(1, 3\)"),
        (lambda x: x[:1].expand(5, 3), TARGETS, {}, r"strides \(0, 1\)"),
        (lambda x: x * 1, torch.rand(5, 3), {}, r"expected \(N, C\), class indices \(N,\)"),
        (lambda x: (x * 1)[0], torch.tensor(1), {}, r"expected \(N, C\), class indices \(N,\)"),
        (lambda x: x * 1, TARGETS, {"weight": torch.ones(3, requires_grad=True)}, "`weight` requires a gradient"),
    ],
)
def test_what_cannot_be_overwritten_is_refused_and_left_alone(logits, targets, options, message):
    x = logits_of(torch.float32)
    given = logits(x)
    before = given.detach().clone()
    with pytest.raises(CallError, match=message):
        cross_entropy(given, targets, inplace=True, **options)
    assert torch.equal(given, before)


def test_where_no_gradient_is_asked_for_nothing_is_overwritten(backend):
    x = logits_of(torch.float32)
    logits = (x * 1).detach()
    before = logits.clone()
    cross_entropy(logits, TARGETS, inplace=True)
    torch.func.grad(lambda z: cross_entropy(z, TARGETS, inplace=True))(logits)
    assert torch.equal(logits, before)


def test_errors_are_those_of_torch(backend):
    x = logits_of(torch.float32)
    with pytest.raises(IndexError, match="Target 7 is out of bounds"):
        cross_entropy(x, torch.full((5,), 7))
    with pytest.raises(ValueError, match="median is not a valid value for reduction"):
        cross_entropy(x * 1, TARGETS, reduction="median", inplace=True)
    with pytest.raises(RuntimeError, match="label_smoothing must be between"):
        cross_entropy(x, TARGETS, label_smoothing=1.5)


# ---- numbers at the edge ---------------------------------------------------------------------------------------------

EDGES = {
    "huge": (torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4], [-1e4, -1e4, -1e4]]), torch.tensor([1, 1, 2])),
    "one class": (torch.randn(4, 1), torch.tensor([0, 0, -100, 0])),
    "no rows": (torch.randn(0, 3), torch.zeros(0).long()),
    "all ignored": (torch.randn(3, 3), torch.full((3,), -100)),
    "masked classes": (torch.tensor([[1.0, -torch.inf, 2.0], [-torch.inf, 0.5, -torch.inf]]), torch.tensor([0, 1])),
    "a masked label": (torch.tensor([[1.0, -torch.inf, 2.0]]), torch.tensor([1])),
}


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("inplace", [False, True])
def test_at_the_edge_the_value_is_that_of_torch_and_the_gradient_has_no_nan(edge, dtype, reduction, inplace, backend):
    logits, targets = EDGES[edge]
    x = logits.to(dtype).requires_grad_()
    loss = cross_entropy(x * 1, targets, reduction=reduction, inplace=inplace)
    want = functional.cross_entropy(x, targets, reduction=reduction)
    torch.testing.assert_close(loss, want, equal_nan=True)
    (got,) = torch.autograd.grad(loss.sum(), x)
    assert got.isfinite().all()
    torch.testing.assert_close(got, torch.autograd.grad(want.sum(), x)[0])


@pytest.mark.parametrize("inplace", [False, True])
def test_a_row_without_any_finite_logit_has_the_loss_of_torch_and_no_gradient(inplace, backend):
    x = torch.randn(3, 40)
    x[1] = -torch.inf
    x.requires_grad_()
    targets = torch.tensor([0, 7, 2])
    losses = cross_entropy(x * 1, targets, reduction="none", inplace=inplace)
    want = functional.cross_entropy(x, targets, reduction="none")
    torch.testing.assert_close(losses, want, equal_nan=True)
    (got,) = torch.autograd.grad(losses.sum(), x)
    assert torch.equal(got[1], torch.zeros(40))
    torch.testing.assert_close(got[::2], torch.autograd.grad(want[::2].sum(), x)[0][::2])


def test_what_is_ignored_is_not_looked_at(backend):
    x = torch.randn(3, 40)
    x[1] = torch.nan
    x.requires_grad_()
    loss = cross_entropy(x, torch.tensor([0, -100, 2]))
    assert loss.isfinite()
    assert torch.autograd.grad(loss, x)[0].isfinite().all()


@pytest.mark.parametrize("margin", [3.0, 8.0, 20.0])
def test_in_bfloat16_the_loss_of_a_sure_prediction_is_as_exact_as_torchs(margin, backend):
    x = (torch.randn(64, 50) + margin * functional.one_hot(torch.zeros(64).long(), 50)).bfloat16().requires_grad_()
    targets = torch.zeros(64).long()
    exact = functional.cross_entropy(x.double(), targets, reduction="sum")
    got, theirs = (f(x, targets, reduction="sum") for f in (cross_entropy, functional.cross_entropy))
    (want,) = torch.autograd.grad(exact, x)
    assert abs(got.item() - exact.item()) <= max(abs(theirs.item() - exact.item()), 2**-8 * exact.item())
    off = [(torch.autograd.grad(f, x)[0].double() - want).norm().item() for f in (got, theirs)]
    assert off[0] <= max(off[1], 2**-8 * want.norm().item())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_number_of_threads_is_not_seen(dtype):
    x = torch.randn(2000, 70).to(dtype).requires_grad_()
    targets = torch.randint(0, 70, (2000,))
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        loss = cross_entropy(x, targets)
        results.append((loss.detach(), *torch.autograd.grad(loss, x)))
    torch.set_num_threads(1)
    for others in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], others, strict=True))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_arguments_that_torch_tests_its_own_with(dtype, at_any_size):
    for sample in samples("nn.functional.cross_entropy", dtype):
        ours = cross_entropy(sample.input, *sample.args, **sample.kwargs)
        theirs = functional.cross_entropy(sample.input, *sample.args, **sample.kwargs)
        torch.testing.assert_close(ours, theirs, equal_nan=True)
        got, want = (torch.autograd.grad(loss.sum(), sample.input)[0] for loss in (ours, theirs))
        torch.testing.assert_close(got, want, atol=1e-2 if dtype == torch.bfloat16 else 1e-6, rtol=1e-2)
