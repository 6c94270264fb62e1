"""Products of matrices: the same numbers from either library, and the quicker one only where nobody can tell."""

import pytest
import torch
from agreement import gradients
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from gradsmith.catalog import _private, linear, linear_cross_entropy
from gradsmith.catalog.products import Products, affine

ROWS, FEATURES, OUTPUTS = 128, 512, 384  # 1.5 times as many multiplications as it takes to be worth it

pytestmark = pytest.mark.skipif(_private.onednn_linear is None, reason="this torch has no oneDNN")


@pytest.fixture
def calls(monkeypatch):
    """The shapes of what oneDNN was asked for, as on a processor where it is the quicker."""
    shapes = []
    product = _private.onednn_linear

    def counted(input, weight, *rest):
        shapes.append((tuple(input.shape), tuple(weight.shape)))
        return product(input, weight, *rest)

    monkeypatch.setattr(_private, "onednn_linear", counted)
    monkeypatch.setattr(_private, "of_amd", lambda: True)
    return shapes


def matrices(rows=ROWS, features=FEATURES, outputs=OUTPUTS, **options):
    return torch.randn(rows, features, **options), torch.randn(outputs, features, **options)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("leading", [(ROWS,), (2, ROWS // 2), (1, ROWS, 1)])
@torch.no_grad()
def test_onednn_gives_what_the_other_library_gives(calls, leading, bias):
    input, weight = torch.randn(*leading, FEATURES), torch.randn(OUTPUTS, FEATURES)
    added = torch.randn(OUTPUTS) if bias else None
    torch.testing.assert_close(affine(input, weight, added), functional.linear(input, weight, added), rtol=0, atol=2e-4)
    assert calls


@torch.no_grad()
def test_a_transposed_weight_is_taken_as_it_lies(calls):
    grad, weight = torch.randn(ROWS, OUTPUTS), torch.randn(OUTPUTS, FEATURES)
    torch.testing.assert_close(affine(grad, weight.mT), grad @ weight, rtol=0, atol=2e-4)
    assert calls == [((ROWS, OUTPUTS), (FEATURES, OUTPUTS))]


@pytest.mark.parametrize(
    "tensors",
    [
        pytest.param(matrices(rows=8), id="few multiplications"),
        pytest.param(matrices(rows=1, features=8192, outputs=4096), id="one row"),
        pytest.param(matrices(rows=2**14, outputs=3), id="few outputs"),
        pytest.param(matrices(rows=2**14, features=3), id="few features"),
        pytest.param(matrices(features=2**15, outputs=8), id="few long sums"),
        pytest.param(matrices(dtype=torch.float64), id="float64"),
        pytest.param(matrices(dtype=torch.bfloat16), id="bfloat16"),
        pytest.param((torch.randn(FEATURES, ROWS).mT, torch.randn(OUTPUTS, FEATURES)), id="transposed input"),
        pytest.param((torch.randn(ROWS, FEATURES), torch.randn(1, FEATURES).expand(OUTPUTS, -1)), id="expanded weight"),
        pytest.param((torch.randn(ROWS, FEATURES), torch.randn(OUTPUTS, FEATURES).to_sparse()), id="sparse weight"),
        pytest.param((*matrices(), torch.randn(1)), id="broadcast bias"),
        pytest.param((*matrices(), torch.randn(ROWS, OUTPUTS)), id="bias of a matrix"),
    ],
)
@torch.no_grad()
def test_all_else_is_torchs_own_product(calls, tensors):
    assert torch.equal(affine(*tensors), functional.linear(*tensors))
    assert not calls


def test_a_product_that_is_recorded_is_torchs_own(calls):
    input, weight = matrices(requires_grad=True)
    affine(input, weight).sum().backward()
    assert weight.grad is not None
    assert not calls


@pytest.mark.parametrize(("rows", "features", "outputs"), [(4, 2**14, 512), (2, 8192, 4096)])
@torch.no_grad()
def test_the_bits_do_not_depend_on_the_number_of_threads(calls, rows, features, outputs):
    tensors, results = matrices(rows, features, outputs), []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 16):
            torch.set_num_threads(threads)
            results.append(affine(*tensors))
    finally:
        torch.set_num_threads(before)
    assert len(calls) == 3
    assert all(torch.equal(result, results[0]) for result in results)


@torch.no_grad()
def test_another_processor_keeps_torchs_own(calls, monkeypatch):
    monkeypatch.setattr(_private, "of_amd", lambda: False)
    affine(*matrices())
    assert not calls


@torch.no_grad()
def test_a_torch_without_the_operator_keeps_its_own(calls, monkeypatch):
    monkeypatch.setattr(_private, "onednn_linear", None)
    input, weight = matrices()
    assert torch.equal(affine(input, weight), functional.linear(input, weight))


@pytest.mark.filterwarnings("ignore:TF32 acceleration")
@torch.no_grad()
def test_who_switches_onednn_off_gets_none_of_it(calls):
    with torch.backends.mkldnn.flags(enabled=False):
        affine(*matrices())
    assert not calls


@torch.no_grad()
def test_who_counts_operations_sees_the_product(calls):
    with FlopCounterMode(display=False) as counter:
        affine(*matrices())
    assert counter.get_total_flops() == 2 * ROWS * FEATURES * OUTPUTS
    assert not calls


def test_shapes_that_do_not_fit_are_told_as_torch_tells_them(calls):
    with torch.no_grad(), pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        affine(torch.randn(ROWS, FEATURES), torch.randn(OUTPUTS, FEATURES + 1))


@pytest.mark.parametrize("bias", [None, torch.randn(OUTPUTS)])
@pytest.mark.parametrize("amd", [False, True])
@torch.no_grad()
def test_one_product_after_another_shares_memory_where_the_library_takes_it(calls, monkeypatch, amd, bias):
    monkeypatch.setattr(_private, "of_amd", lambda: amd)
    input, weight = matrices()
    product = Products()
    first, last = product(input, weight, bias), product(input[:100], weight, bias)
    assert (first.data_ptr() == last.data_ptr()) is not amd
    torch.testing.assert_close(last, functional.linear(input[:100], weight, bias), rtol=0, atol=2e-4)


def test_the_gradients_of_linear_agree_with_torchs(calls):
    inputs = (*matrices(), torch.randn(OUTPUTS))
    upstream = torch.randn(ROWS, OUTPUTS)
    for got, expected in zip(*(gradients(f, inputs, upstream) for f in (linear, functional.linear)), strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=2e-4)
    assert calls == [((ROWS, FEATURES), (OUTPUTS, FEATURES)), ((ROWS, OUTPUTS), (FEATURES, OUTPUTS))]


@pytest.mark.parametrize(("memory", "times"), [("forward", 1), ("recompute", 2)])
def test_linear_cross_entropy_takes_its_logits_from_it(calls, memory, times):
    input, weight = matrices()
    inputs, targets = (input, weight / FEATURES**0.5), torch.randint(OUTPUTS, (ROWS,))

    def ours(x, w):
        return linear_cross_entropy(x, w, targets, memory=memory)

    def theirs(x, w):
        return functional.cross_entropy(functional.linear(x, w), targets)

    torch.testing.assert_close(ours(*inputs), theirs(*inputs))
    calls.clear()
    for got, expected in zip(*(gradients(f, inputs) for f in (ours, theirs)), strict=True):
        torch.testing.assert_close(got, expected)
    assert calls == [((ROWS, FEATURES), (OUTPUTS, FEATURES))] * times
