"""linear_cross_entropy: the loss of linear and cross_entropy, without ever holding the logits."""

import math
import subprocess
import sys

import pytest
import torch
from agreement import saved_bytes
from half_precision import DTYPES, assert_within_rounding
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional
from torch_samples import samples

from gradsmith import check
from gradsmith.catalog import linear_chunks, linear_cross_entropy
from gradsmith.define.errors import CallError, MissingFormula, SecondDerivativeError

OPTIONS = [
    {},
    {"reduction": "sum"},
    {"reduction": "none"},
    {"label_smoothing": 0.1},
    {"softcap": 3.0},
    {"z_loss": 0.01},
    {"label_smoothing": 0.2, "softcap": 4.0, "z_loss": 0.01, "ignore_index": 2},
    {"memory": "recompute"},
    {"memory": "recompute", "softcap": 3.0, "z_loss": 0.01, "reduction": "sum"},
]


def unfused(input, linear_weight, target, linear_bias=None, weight=None, **options):
    """The same in torch, all logits at once."""
    softcap, z_loss = options.pop("softcap", 0.0), options.pop("z_loss", 0.0)
    reduction, ignore_index = options.pop("reduction", "mean"), options.get("ignore_index", -100)
    for ours in ("memory", "accumulate", "chunk"):
        options.pop(ours, None)
    z = functional.linear(input, linear_weight, linear_bias).flatten(0, -2)
    target = target.flatten()
    if softcap:
        z = softcap * torch.tanh(z / softcap)
    valid = target != ignore_index
    losses = functional.cross_entropy(z, target, weight, reduction="none", **options)
    losses = losses + z_loss * torch.logsumexp(z, 1).square() * valid
    if reduction == "none":
        return losses
    counts = valid.to(z.dtype) if weight is None else weight[target.where(valid, 0)] * valid
    return losses.sum() / counts.sum() if reduction == "mean" else losses.sum()


def problem(dtype=torch.float64, rows=11, features=6, classes=9):
    generator = torch.Generator().manual_seed(rows)
    target = torch.randint(0, classes, (rows,), generator=generator)
    target[::4] = -100
    shapes = (rows, features), (classes, features), (classes,)
    return target, [torch.randn(shape, generator=generator).to(dtype).requires_grad_() for shape in shapes]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("weighted", [False, True])
def test_differences_agree_in_every_option(options, weighted):
    target, tensors = problem()
    options = dict(options, weight=torch.rand(9, dtype=torch.float64) if weighted else None)
    target = target.where(target >= 0, options.get("ignore_index", -100))

    def loss(input, linear_weight, linear_bias):
        return linear_cross_entropy(input, linear_weight, target, linear_bias=linear_bias, chunk=4, **options)

    torch.testing.assert_close(loss(*tensors), unfused(*tensors[:2], target, tensors[2], **options))
    assert gradcheck(loss, tensors, check_forward_ad=True)


@pytest.mark.parametrize("options", [o for o in OPTIONS if o.get("memory") or o.get("reduction") == "none"])
def test_recomputed_gradients_have_derivatives_of_their_own(options):
    target, tensors = problem()

    def loss(input, linear_weight, linear_bias):
        return linear_cross_entropy(input, linear_weight, target, linear_bias=linear_bias, **options)

    assert gradgradcheck(loss, tensors)


def test_gradients_of_the_forward_refuse_a_second_derivative():
    target, tensors = problem()
    loss = linear_cross_entropy(*tensors[:2], target)
    (gradient,) = torch.autograd.grad(loss, tensors[0], create_graph=True)
    with pytest.raises(SecondDerivativeError):
        gradient.sum().backward()


EVERYTHING = {"label_smoothing": 0.2, "softcap": 4.0, "z_loss": 0.01, "ignore_index": 2}


def checked(dtype, options):
    target, tensors = problem(dtype, rows=5, features=3, classes=4)
    target = target.where(target >= 0, options.get("ignore_index", -100))

    def loss(input, linear_weight, linear_bias):
        return linear_cross_entropy(input, linear_weight, target, linear_bias=linear_bias, chunk=2, **options)

    report = check(loss, tuple(tensors))
    return report.of("error") + report.of("warning"), set(report.codes)


@pytest.mark.parametrize("options", [{}, {**EVERYTHING, "reduction": "sum", "weight": torch.rand(4).double()}])
def test_the_checker_has_nothing_to_say_but_that_second_derivatives_are_refused(options, at_any_size):
    assert checked(torch.float64, options) == ((), {"no-double-backward"})


@pytest.mark.parametrize("options", [{"reduction": "none"}, {**EVERYTHING, "memory": "recompute"}])
def test_the_checker_has_nothing_to_say_of_recomputed_gradients(options, at_any_size):
    assert checked(torch.float64, options) == ((), set())


def test_the_checker_has_nothing_to_say_in_float32(backend):
    assert checked(torch.float32, EVERYTHING)[0] == ()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("options", OPTIONS)
def test_every_dtype_is_within_rounding_of_float64(dtype, options, backend):
    target, tensors = problem(dtype, rows=50, features=16, classes=131)
    target = target.where(target >= 0, options.get("ignore_index", -100))

    def ours(input, linear_weight, linear_bias):
        return linear_cross_entropy(input, linear_weight, target, linear_bias=linear_bias, chunk=16, **options)

    def exact(input, linear_weight, linear_bias):
        return unfused(input, linear_weight, target, linear_bias, **options)

    assert_within_rounding(ours, exact, [0.3 * tensor.detach() for tensor in tensors])


def test_many_chunks_are_summed_in_float32_unless_the_caller_says_otherwise(backend):
    target, tensors = problem(torch.bfloat16, rows=512, features=16, classes=40)
    exact = [tensor.detach().double().requires_grad_() for tensor in tensors]
    (want,) = torch.autograd.grad(unfused(*exact[:2], target, exact[2]), exact[1])

    def error(function, **options):
        loss = function(*tensors[:2], target, linear_bias=tensors[2], **options)
        (got,) = torch.autograd.grad(loss, tensors[1])
        assert got.dtype == torch.bfloat16
        return ((got.double() - want).norm() / want.norm()).item()

    default = error(linear_cross_entropy, chunk=8)
    assert default == error(linear_cross_entropy, chunk=8, accumulate=torch.float32)
    assert default < error(unfused)
    assert default < 0.6 * error(linear_cross_entropy, chunk=8, accumulate=torch.bfloat16)


@pytest.mark.parametrize("dtype", DTYPES)
def test_losses_and_gradients_are_no_less_exact_than_unfused(dtype, backend):
    rows, features, classes = 512, 64, 500
    generator = torch.Generator().manual_seed(3)
    target = torch.randint(0, classes, (rows,), generator=generator)
    shapes = (rows, features), (classes, features)
    tensors = [(0.5 * torch.randn(s, generator=generator)).to(dtype).requires_grad_() for s in shapes]
    exact = [tensor.detach().double().requires_grad_() for tensor in tensors]
    results = [
        [loss.detach(), *torch.autograd.grad(loss, args)]
        for loss, args in (
            (unfused(*exact, target, reduction="sum"), exact),
            (linear_cross_entropy(*tensors, target, reduction="sum", chunk=128), tensors),
            (unfused(*tensors, target, reduction="sum"), tensors),
        )
    ]
    for want, ours, theirs in zip(*results, strict=True):
        unit = want.norm() * torch.finfo(dtype).eps
        off, allowed = ((got.double() - want).norm() for got in (ours, theirs))
        assert off <= 1.25 * allowed + unit / 4, (off / unit, allowed / unit)


@pytest.mark.parametrize("memory", ["forward", "recompute"])
@pytest.mark.parametrize("needed", [(0,), (1,), (2,), (0, 1), (1, 2)])
def test_only_the_gradients_that_are_needed_are_computed(memory, needed, backend):
    target, tensors = problem(torch.float32)
    given = [t.detach().requires_grad_(i in needed) for i, t in enumerate(tensors)]
    loss = linear_cross_entropy(*given[:2], target, linear_bias=given[2], memory=memory)
    want = torch.autograd.grad(unfused(*tensors[:2], target, tensors[2]), [tensors[i] for i in needed])
    torch.testing.assert_close(torch.autograd.grad(loss, [given[i] for i in needed]), want)


def biggest(function):
    """The most elements of a new tensor that an operation returns while `function` runs."""

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        most = 0

        def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
            out = operation(*args, **(kwargs or {}))
            given = {value.untyped_storage().data_ptr() for value in self.tensors((args, kwargs))}
            new = [value for value in self.tensors(out) if value.untyped_storage().data_ptr() not in given]
            self.most = max([self.most, *(value.numel() for value in new)])
            return out

        def tensors(self, tree):
            return [leaf for leaf in torch.utils._pytree.tree_leaves(tree) if isinstance(leaf, torch.Tensor)]

    with Watch() as watch:
        function()
    return watch.most


@pytest.mark.parametrize("memory", ["forward", "recompute"])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_no_more_than_a_chunk_of_logits_exists(memory, reduction, backend):
    target, tensors = problem(torch.float32, rows=64, features=4, classes=100)
    memory = "recompute" if reduction == "none" else memory

    def run(function, **options):
        function(*tensors[:2], target, linear_bias=tensors[2], reduction=reduction, **options).sum().backward()

    assert biggest(lambda: run(unfused)) == 64 * 100
    assert biggest(lambda: run(linear_cross_entropy, memory=memory, chunk=8)) == 8 * 100


def test_without_a_gradient_no_gradient_is_computed(backend):
    target, tensors = problem(torch.float32, rows=64, features=4, classes=100)
    with torch.no_grad():
        most = biggest(lambda: linear_cross_entropy(*tensors[:2], target, chunk=2))
    assert most < 400  # the gradient of linear_weight has 400 elements


def test_what_is_saved(backend):
    target, tensors = problem(torch.float32, rows=64, features=4, classes=100)
    sizes = 4 * (64 * 4 + 100 * 4)
    assert saved_bytes(lambda: linear_cross_entropy(*tensors[:2], target)) == sizes  # their gradients
    late = saved_bytes(lambda: linear_cross_entropy(*tensors[:2], target, memory="recompute"))
    assert late == sizes + target.numel() * 8
    assert saved_bytes(lambda: unfused(*tensors[:2], target)) > late


def test_the_chunk_is_a_power_of_two_that_bounds_the_logits():
    assert linear_chunks.chunk_for(32_000) == 512
    assert linear_chunks.chunk_for(256_000) == 256
    assert linear_chunks.chunk_for(10) * 10 <= 2**24


@pytest.mark.parametrize("shape", [(3,), (2, 3), ()])
def test_any_number_of_leading_dimensions(shape, backend):
    x, w = torch.randn(*shape, 4, requires_grad=True), torch.randn(5, 4, requires_grad=True)
    target = torch.randint(0, 5, shape)
    loss = linear_cross_entropy(x, w, target)
    want = functional.cross_entropy((x @ w.mT).reshape(-1, 5), target.reshape(-1))
    torch.testing.assert_close(loss, want)
    torch.testing.assert_close(torch.autograd.grad(loss, (x, w)), torch.autograd.grad(want, (x, w)))
    assert linear_cross_entropy(x, w, target, reduction="none").shape == shape


@pytest.mark.parametrize("memory", ["forward", "recompute"])
def test_no_rows_and_all_rows_ignored(memory, backend):
    for rows in (0, 3):
        x, w = torch.randn(rows, 4, requires_grad=True), torch.randn(5, 4, requires_grad=True)
        loss = linear_cross_entropy(x, w, torch.full((rows,), -100), memory=memory)
        assert math.isnan(loss.item())
        for gradient in torch.autograd.grad(loss, (x, w)):
            assert torch.equal(gradient, torch.zeros_like(gradient))


def test_under_autocast_it_runs_in_its_dtype_and_the_gradients_come_back(backend):
    target, tensors = problem(torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = linear_cross_entropy(*tensors[:2], target)
    assert loss.dtype == torch.bfloat16
    assert [g.dtype for g in torch.autograd.grad(loss, tensors[:2])] == [torch.float32] * 2


def test_torch_func_gets_the_same_gradients():
    target, tensors = problem()
    got = torch.func.grad(lambda x: linear_cross_entropy(x, tensors[1].detach(), target))(tensors[0].detach())
    torch.testing.assert_close(got, torch.autograd.grad(unfused(*tensors[:2], target), tensors[0])[0])


def test_a_backward_with_an_upstream_of_its_own_scales_and_may_be_repeated(backend):
    target, tensors = problem(torch.float32)
    loss = linear_cross_entropy(*tensors[:2], target)
    once = torch.autograd.grad(loss, tensors[:2], retain_graph=True)
    scaled = torch.autograd.grad(loss, tensors[:2], torch.tensor(3.0), retain_graph=True)
    again = torch.autograd.grad(loss, tensors[:2])
    for one, two, three in zip(once, scaled, again, strict=True):
        torch.testing.assert_close(3 * one, two)
        assert torch.equal(one, three)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"linear_weight": torch.zeros(9, 5)}, r"`input` has shape \[11, 6\] and `linear_weight` \[9, 5\]"),
        ({"target": torch.zeros(10, dtype=torch.long)}, r"`target` is torch.int64 of shape \[10\]"),
        ({"target": torch.zeros(11)}, r"`target` is torch.float32"),
        ({"linear_bias": torch.zeros(3)}, r"`linear_bias` has shape \[3\], expected \(9,\)"),
        ({"weight": torch.zeros(3)}, r"`weight` has shape \[3\], expected \(9,\)"),
        ({"reduction": "median"}, "`reduction` is 'median'"),
        ({"label_smoothing": 2.0}, "`label_smoothing` is 2.0"),
        ({"memory": "none"}, "`memory` is 'none', expected one of auto, forward, recompute"),
        ({"memory": "forward", "reduction": "none"}, "use memory='recompute' or 'auto'"),
    ],
)
def test_what_does_not_fit_together_is_named(change, message):
    target, (input, linear_weight, _) = problem(torch.float32)
    arguments = {"input": input, "linear_weight": linear_weight, "target": target, **change}
    with pytest.raises(CallError, match=message):
        linear_cross_entropy(**arguments)


def test_a_target_that_is_no_class_is_an_index_error(backend):
    _, (input, linear_weight, _) = problem(torch.float32)
    with pytest.raises(IndexError, match="Target 9 is out of bounds"):
        linear_cross_entropy(input, linear_weight, torch.full((11,), 9))


def test_a_class_weight_that_requires_a_gradient_is_refused():
    target, (input, linear_weight, _) = problem(torch.float32)
    loss = linear_cross_entropy(input, linear_weight, target, weight=torch.ones(9, requires_grad=True))
    with pytest.raises(MissingFormula, match="`weight`"):
        loss.backward()


# ---- numbers at the edge ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("memory", ["forward", "recompute"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("edge", ["huge logits", "one class", "masked classes", "a row without any finite logit"])
def test_at_the_edge_no_gradient_is_nan(edge, dtype, memory, backend):
    x, w = torch.randn(6, 4), torch.randn(1 if edge == "one class" else 5, 4)
    bias, target = torch.zeros(len(w)), torch.zeros(6).long()
    if edge == "huge logits":
        w = torch.tensor([1e4, -1e4, 0.0, 1e4, -1e4])[:, None].expand(5, 4) / 4
        x = torch.ones(6, 4)
    elif edge == "masked classes":
        bias[2:] = -torch.inf
    elif edge.startswith("a row"):
        bias[:] = -torch.inf
    leaves = [t.to(dtype).requires_grad_() for t in (x, w)]
    loss = linear_cross_entropy(*leaves, target, linear_bias=bias.to(dtype), memory=memory)
    want = functional.cross_entropy(functional.linear(*leaves, bias.to(dtype)), target)
    torch.testing.assert_close(loss, want, equal_nan=True)
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(loss, leaves))


def test_the_arguments_that_torch_tests_its_own_with(at_any_size):
    ran = 0
    for sample in samples("nn.functional.linear_cross_entropy", torch.float64):
        linear_weight, target = sample.args
        if linear_weight.dim() != 2 or target.is_floating_point():
            continue  # losses of several dimensions, and class probabilities
        options = {name: value for name, value in sample.kwargs.items() if value is not None}
        loss = linear_cross_entropy(sample.input, linear_weight, target, **options)
        want = functional.linear_cross_entropy(sample.input, linear_weight, target, **options)
        torch.testing.assert_close(loss, want, equal_nan=True)
        leaves = [sample.input, linear_weight]
        got = torch.autograd.grad(loss.sum(), leaves, allow_unused=True)
        torch.testing.assert_close(got, torch.autograd.grad(want.sum(), leaves, allow_unused=True))
        ran += 1
    assert ran > 3


UNDER_A_LIMIT = """
import resource, sys, torch
resource.setrlimit(resource.RLIMIT_AS, (4 * 2**30, 4 * 2**30))
from torch.nn import functional
from gradsmith import linear_cross_entropy
torch.set_num_threads(1)
x, w = torch.randn(1536, 8, requires_grad=True), torch.randn(256_000, 8, requires_grad=True)
target = torch.randint(0, 256_000, (1536,))
if sys.argv[1] == "ours":
    loss = linear_cross_entropy(x, w, target)
else:
    loss = functional.cross_entropy(functional.linear(x, w), target)
loss.backward()
assert x.grad.isfinite().all() and w.grad.isfinite().all()
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the limit is one of Linux")
@pytest.mark.parametrize("which", ["ours", "unfused"])
def test_a_vocabulary_of_256000_fits_into_4_gib_where_the_unfused_loss_does_not(which):
    run = subprocess.run([sys.executable, "-c", UNDER_A_LIMIT, which], capture_output=True, text=True, timeout=500)
    if which == "ours":
        assert run.returncode == 0, run.stderr
    else:
        assert run.returncode != 0
        assert "not enough memory" in run.stderr or "MemoryError" in run.stderr or "can't allocate" in run.stderr
