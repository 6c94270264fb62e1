"""The kernels against float64, at sizes that leave tails, in strides, with infinities, on any number of threads."""

import pytest
import torch
from torch.nn import functional

from gradsmith import reuse_memory

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
UNIT = {torch.float32: 2**-22, torch.bfloat16: 2**-8, torch.float16: 2**-10}
SIZES = [1, 7, 8, 16, 17, 33, 1023, 1024, 1025, 2100]


def close(got, want, dtype):
    """Within rounding of what was computed in float64, relative to the largest value."""
    scale = want.abs().max().item() if want.numel() else 0.0
    torch.testing.assert_close(got.double(), want, rtol=4 * UNIT[dtype], atol=UNIT[dtype] * scale + 1e-7)


def double(tensor):
    return tensor.detach().double().requires_grad_()


def fused(kernels, logits, targets, weight=None, options=(-100, 0.0, 0.0, 0.0), scale=None):
    scale = torch.ones(len(logits)) if scale is None else scale
    gradient = torch.empty_like(logits, memory_format=torch.contiguous_format)
    return kernels.cross_entropy_fused(logits, targets, weight, *options, scale, gradient), gradient


def reference(logits, targets, weight, options, scale):
    ignore_index, smoothing, cap, z_loss = options
    x = double(logits)
    z = cap * torch.tanh(x / cap) if cap else x
    weight = None if weight is None else weight.double()
    losses = functional.cross_entropy(
        z, targets, weight, ignore_index=ignore_index, reduction="none", label_smoothing=smoothing
    )
    losses = losses + z_loss * torch.logsumexp(z, 1).square() * (targets != ignore_index)
    return losses.detach(), torch.autograd.grad(losses, x, scale.double())[0]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "options", [(-100, 0.0, 0.0, 0.0), (-100, 0.1, 0.0, 0.0), (3, 0.0, 5.0, 0.0), (-100, 0.2, 3.0, 0.01)]
)
def test_cross_entropy(kernels, dtype, size, options):
    generator = torch.Generator().manual_seed(size)
    logits = (torch.randn(9, size, generator=generator) * 3).to(dtype)
    targets = torch.randint(0, size, (9,), generator=generator)
    targets[2] = options[0] if options[0] >= 0 or size else 0
    weight, scale = torch.rand(size, generator=generator) + 0.1, torch.rand(9, generator=generator) + 0.5
    for weights in (None, weight):
        want = reference(logits, targets, weights, options, scale)
        losses, gradient = fused(kernels, logits, targets, weights, options, scale)
        alone = kernels.cross_entropy(logits, targets, weights, *options)
        torch.testing.assert_close(losses.double(), want[0], rtol=2e-6, atol=2e-6)
        assert torch.equal(losses, alone)
        close(gradient, want[1], dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_cross_entropy_reads_rows_that_lie_apart_and_writes_in_place(kernels, dtype):
    wide = torch.randn(6, 200).to(dtype)
    view, targets = wide[:, 11:128], torch.randint(0, 117, (6,))
    _losses, gradient = fused(kernels, view.contiguous(), targets)
    assert torch.equal(fused(kernels, view, targets)[1], gradient)
    left, right = wide[:, :11].clone(), wide[:, 128:].clone()
    kernels.cross_entropy_fused(view, targets, None, -100, 0.0, 0.0, 0.0, torch.ones(6), view)
    assert torch.equal(view, gradient)
    assert torch.equal(wide[:, :11], left)
    assert torch.equal(wide[:, 128:], right)


def test_the_softmax_of_huge_and_of_masked_logits(kernels):
    logits = torch.tensor([[1e4, -1e4, 0.0], [-torch.inf, 2.0, 2.0], [1e38, -1e38, 1e38], [-1e4, -1e4, -1e4]])
    losses, gradient = fused(kernels, logits, torch.tensor([0, 1, 0, 2]))
    want = functional.cross_entropy(logits.double(), torch.tensor([0, 1, 0, 2]), reduction="none")
    torch.testing.assert_close(losses.double(), want)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("at", [0, 5, 1500])
def test_nan_and_infinity_come_out_where_torch_has_them(kernels, value, at):
    logits = torch.randn(2, 1600)
    logits[0, at] = value
    targets = torch.tensor([3, 3])
    losses, gradient = fused(kernels, logits, targets)
    plain = logits.clone().requires_grad_()
    want = functional.cross_entropy(plain, targets, reduction="none")
    want_gradient = torch.autograd.grad(want.sum(), plain)[0]
    assert torch.equal(losses.isnan(), want.isnan())
    assert torch.equal(gradient.isnan(), want_gradient.isnan())


def test_a_row_of_minus_infinity_is_nan_as_in_torch_and_has_no_gradient(kernels):
    losses, gradient = fused(kernels, torch.full((1, 40), -torch.inf), torch.tensor([3]))
    assert losses.isnan().all()
    assert torch.equal(gradient, torch.zeros(1, 40))
    assert kernels.logsumexp(torch.full((1, 40), -torch.inf)).item() == -torch.inf


def test_what_is_ignored_is_not_read(kernels):
    logits = torch.full((1, 40), torch.nan)
    losses, gradient = fused(kernels, logits, torch.tensor([-100]))
    assert losses.item() == 0
    assert torch.equal(gradient, torch.zeros(1, 40))


@pytest.mark.parametrize("label", [-1, 40])
def test_a_target_out_of_range_is_an_index_error(kernels, label):
    with pytest.raises(IndexError, match=f"Target {label} is out of bounds"):
        fused(kernels, torch.randn(1, 40), torch.tensor([label]))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
def test_logsumexp(kernels, dtype, size):
    rows = (torch.randn(5, size) * 5).to(dtype)
    x, upstream = double(rows), torch.randn(5)
    want = torch.logsumexp(x, 1)
    torch.testing.assert_close(kernels.logsumexp(rows).double(), want.detach(), rtol=2e-6, atol=2e-6)
    close(kernels.logsumexp_backward(upstream, rows), torch.autograd.grad(want, x, upstream.double())[0], dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("with_residual", [True, False])
def test_norms(kernels, dtype, size, centred, with_residual):
    generator = torch.Generator().manual_seed(size)
    x, r, g, ga = ((torch.randn(70, size, generator=generator) + 0.5).to(dtype) for _ in range(4))
    weight, bias = torch.rand(size, generator=generator), torch.rand(size, generator=generator)
    residual = r if with_residual else None
    out, added, mean, rstd = kernels.norm(x, residual, weight, bias if centred else None, 1e-3, centred)
    source = added if with_residual else x
    assert not with_residual or torch.equal(added, x + r)
    row, w, b = double(source), double(weight), double(bias)
    want = functional.layer_norm(row, (size,), w, b, 0.001) if centred else functional.rms_norm(row, (size,), w, 0.001)
    close(out, want.detach(), dtype)
    dx, dw, db = torch.autograd.grad(want, (row, w, b), g.double(), allow_unused=True)
    upstream = ga if with_residual else None
    options = (mean if centred else None, rstd, weight, upstream, True, True, centred)
    got = kernels.norm_backward(g, source, *options)
    close(got[0], dx + (ga.double() if with_residual else 0), dtype)
    close(got[1], dw, torch.float32)
    if centred:
        close(got[2], db, torch.float32)
    assert [t.numel() > 0 for t in kernels.norm_backward(g, source, *options[:4], False, False, True)] == [
        False,
        False,
        True,
    ]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", [0, 1, 2])
def test_gated_activations(kernels, dtype, size, kind):
    activation = [
        functional.silu,
        functional.gelu,
        lambda x: functional.gelu(x, approximate="tanh"),
    ][kind]
    packed = (torch.randn(5, 2 * size) * 4).to(dtype)
    gate, up = packed.chunk(2, -1)
    g = torch.randn(5, size).to(dtype)
    a, b = double(gate), double(up)
    want = activation(a) * b
    close(kernels.gated(kind, gate, up), want.detach(), dtype)
    for got, expected in zip(
        kernels.gated_backward(kind, g, gate, up), torch.autograd.grad(want, (a, b), g.double()), strict=True
    ):
        close(got, expected, dtype)


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_gated_activations_far_out_and_at_no_number(kernels, kind):
    gate = torch.tensor([[1e4, -1e4, 0.0, -0.0, 88.0, -88.0, 1e-30, torch.nan, torch.inf, -torch.inf]])
    up = torch.ones_like(gate)
    name = "tanh" if kind == 2 else "none"
    activation = functional.silu(gate) if kind == 0 else functional.gelu(gate, approximate=name)
    value, slope = kernels.gated(kind, gate, up), kernels.gated_backward(kind, up, gate, up)[0]
    torch.testing.assert_close(value[:, :8], activation[:, :8], equal_nan=True)
    assert slope[:, :7].isfinite().all()
    assert slope[0, 7].isnan()


@pytest.mark.parametrize(("kind", "limit"), [(0, 80.0), (1, 13.0)])
def test_silu_and_gelu_are_exact_to_the_last_digits_however_small_they_are(kernels, kind, limit):
    """At each number of bfloat16, and at as many between each two of them."""
    coarse = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(torch.bfloat16).float()
    gate = torch.cat([coarse, coarse * 1.003]).view(1, -1)
    gate = gate[gate.abs() <= limit].view(1, -1)
    x = gate.double()
    if kind == 0:
        share, density = x.sigmoid(), x.sigmoid() * (-x).sigmoid()
    else:
        share, density = torch.erfc(-x / 2**0.5) / 2, torch.exp(-x * x / 2) / (2 * torch.pi) ** 0.5
    value = kernels.gated(kind, gate, torch.ones_like(gate)).double()
    assert ((value - x * share).abs() <= 6e-7 * (x * share).abs() + 2e-38).all()
    slope = kernels.gated_backward(kind, torch.ones_like(gate), gate, torch.ones_like(gate))[0].double()
    assert ((slope - share - x * density).abs() <= 6e-7 * (share + (x * density).abs()) + 2e-38).all()


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_gated_activations_are_0_far_below_and_the_gate_far_above(kernels, kind):
    far = torch.tensor([[95.0, 200.0, 1e4, 1e18]])
    one = torch.ones_like(far)
    assert torch.equal(kernels.gated(kind, far, one), far)
    assert torch.equal(kernels.gated_backward(kind, one, far, one)[0], one)
    assert not kernels.gated(kind, -far, one).any()
    assert not kernels.gated_backward(kind, one, -far, one)[0].any()


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_no_rows_and_few_rows(kernels, rows):
    x = torch.randn(rows, 20)
    assert fused(kernels, x, torch.zeros(rows, dtype=torch.long))[1].shape == (rows, 20)
    assert kernels.logsumexp(x).shape == (rows,)
    out, _, mean, rstd = kernels.norm(x, None, None, None, 1e-5, True)
    assert out.shape == x.shape
    assert kernels.norm_backward(x, x, mean, rstd, None, None, True, True, True)[1].shape == (20,)
    assert kernels.gated(0, x, x).shape == x.shape


def test_no_columns(kernels):
    x = torch.randn(5, 0)
    assert kernels.logsumexp(x).tolist() == [-torch.inf] * 5
    assert kernels.logsumexp_backward(torch.ones(5), x).shape == (5, 0)
    assert kernels.gated(0, x, x).shape == x.shape
    assert [part.shape for part in kernels.gated_backward(1, x, x, x)] == [x.shape, x.shape]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_large_results_in_new_and_in_used_memory_are_those_of_their_parts(kernels, dtype):
    rows = 2**25 // dtype.itemsize // 1024
    x, g = torch.randn(rows, 1024).to(dtype), torch.randn(rows, 1024).to(dtype)
    weight = torch.randn(1024)

    def everything(x, g):
        out, _, mean, rstd = kernels.norm(x, None, weight, weight, 1e-5, True)
        return [
            out,
            kernels.norm_backward(g, x, mean, rstd, weight, None, True, True, True)[0],
            kernels.gated(0, x, g),
            *kernels.gated_backward(1, g, x, g),
            kernels.logsumexp_backward(torch.ones(len(x)), x),
            *fused(kernels, x, x.argmax(1)),
        ]

    pieces = [everything(*part) for part in zip(x.chunk(16), g.chunk(16), strict=True)]
    want = [torch.cat(parts) for parts in zip(*pieces, strict=True)]
    with reuse_memory():
        for _ in range(3):
            assert all(torch.equal(a, b) for a, b in zip(everything(x, g), want, strict=True))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_of_a_million(kernels, dtype):
    rows, targets = torch.randn(1, 2**20 + 13).to(dtype), torch.tensor([2**20 + 12])
    want, gradient = reference(rows, targets, None, (-100, 0.0, 0.0, 0.0), torch.ones(1))
    losses, got = fused(kernels, rows, targets)
    torch.testing.assert_close(losses.double(), want, rtol=2e-6, atol=2e-6)
    close(got, gradient, dtype)
    out, _, mean, rstd = kernels.norm(rows, None, None, None, 1e-5, True)
    x, upstream = double(rows), rows.flip(1) + 1
    want = functional.layer_norm(x, x.shape[1:])
    close(out, want.detach(), dtype)
    got = kernels.norm_backward(upstream, rows, mean, rstd, None, None, True, False, False)[0]
    close(got, torch.autograd.grad(want, x, upstream.double())[0], dtype)


def test_the_results_are_the_same_bits_on_any_number_of_threads(kernels, threads):
    x, targets = torch.randn(300, 1500), torch.randint(0, 1500, (300,))

    def everything():
        out, _, mean, rstd = kernels.norm(x, None, None, None, 1e-5, True)
        return [
            *fused(kernels, x, targets),
            out,
            *kernels.norm_backward(x, x, mean, rstd, None, None, True, True, True),
            *kernels.gated_backward(1, x, x, x),
            kernels.logsumexp(x),
        ]

    results = []
    for count in (1, 2, 3, 7):
        threads(count)
        results.append(everything())
    for other in results[1:]:
        assert all(torch.equal(one, two) for one, two in zip(results[0], other, strict=True))


@pytest.mark.parametrize("dtype", [torch.bfloat16])
def test_sums_over_many_rows_keep_their_precision_in_bfloat16(kernels, dtype):
    x, g = (torch.randn(65536, 32) + 0.3).to(dtype), torch.randn(65536, 32).to(dtype)
    _, _, mean, rstd = kernels.norm(x, None, None, None, 1e-5, True)
    _, dw, db = kernels.norm_backward(g, x, mean, rstd, None, None, True, True, True)
    row, w, b = double(x), torch.ones(32, dtype=torch.float64, requires_grad=True), torch.zeros(32).double()
    b.requires_grad_()
    want = torch.autograd.grad(functional.layer_norm(row, (32,), w, b), (w, b), g.double())
    for got, exact in zip((dw, db), want, strict=True):
        assert (got.double() - exact).norm() < 1e-4 * exact.norm()


def test_torch_library_accepts_the_operators(kernels):
    x, targets = torch.randn(6, 40), torch.randint(0, 40, (6,))
    samples = [
        (kernels.cross_entropy, (x, targets, torch.rand(40), -100, 0.1, 30.0, 1e-4)),
        (kernels.cross_entropy_fused, (x, targets, None, -100, 0.0, 0.0, 0.0, torch.ones(6), torch.empty(6, 40))),
        (kernels.logsumexp, (x,)),
        (kernels.logsumexp_backward, (torch.ones(6), x)),
        (kernels.norm, (x, x, torch.ones(40), None, 1e-5, True)),
        (kernels.norm_backward, (x, x, None, torch.ones(6), None, x, True, True, False)),
        (kernels.gated, (0, x, x)),
        (kernels.gated_backward, (1, x, x, x)),
        (kernels.dropout, (x.t(), 0.5, 7)),
        (kernels.rotary, (torch.randn(3, 6, 20).transpose(0, 1), *torch.rand(2, 6, 3, 8), False, -1.0)),
        (kernels.rotary, (x[:1].expand(6, 40), *torch.rand(2, 6, 20), True, 1.0)),
    ]
    for operator, arguments in samples:
        results = torch.library.opcheck(
            operator.default, arguments, test_utils=("test_schema", "test_faketensor"), raise_exception=True
        )
        assert set(results.values()) == {"SUCCESS"}
