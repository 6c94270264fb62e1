"""gelu, silu and the gated activations."""

import pytest
import torch
from agreement import saved_bytes
from half_precision import DTYPES, assert_within_rounding, results
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional

from gradsmith import check
from gradsmith.catalog import geglu, gelu, silu, swiglu


def tanh_gelu(x):
    return functional.gelu(x, approximate="tanh")


LEAN = {
    "swiglu": lambda a, b: swiglu(a, b, memory="recompute"),
    "geglu": lambda a, b: geglu(a, b, memory="recompute"),
    "geglu by tanh": lambda a, b: geglu(a, b, "tanh", memory="recompute"),
}
PAIRS = {
    "silu": (silu, functional.silu, 1),
    "gelu": (gelu, functional.gelu, 1),
    "gelu by tanh": (lambda x: gelu(x, "tanh"), tanh_gelu, 1),
    "swiglu": (swiglu, lambda a, b: functional.silu(a) * b, 2),
    "geglu": (geglu, lambda a, b: functional.gelu(a) * b, 2),
    "geglu by tanh": (lambda a, b: geglu(a, b, "tanh"), lambda a, b: tanh_gelu(a) * b, 2),
    "lean swiglu": (LEAN["swiglu"], lambda a, b: functional.silu(a) * b, 2),
    "lean geglu": (LEAN["geglu"], lambda a, b: functional.gelu(a) * b, 2),
}
GATED = [name for name, (_, _, count) in PAIRS.items() if count == 2]


@pytest.mark.parametrize("name", PAIRS)
def test_first_and_second_derivatives_agree_with_differences(name):
    ours, theirs, count = PAIRS[name]
    inputs = tuple(torch.randn(3, 4, dtype=torch.float64, requires_grad=True) for _ in range(count))
    torch.testing.assert_close(ours(*inputs), theirs(*inputs))
    assert gradcheck(ours, inputs, check_forward_ad=True)
    assert gradgradcheck(ours, inputs)


@pytest.mark.parametrize("name", PAIRS)
def test_the_checker_has_nothing_to_say(name, backend):
    ours, _, count = PAIRS[name]
    report = check(ours, tuple(torch.randn(3, 4, dtype=torch.float64, requires_grad=True) for _ in range(count)))
    assert report.findings == ()


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(5, 3, 33), (40,), (), (9, 1)])
def test_every_dtype_is_within_rounding_of_float64(name, dtype, shape, backend):
    ours, theirs, count = PAIRS[name]
    assert_within_rounding(ours, theirs, [(torch.randn(shape) * 3).to(dtype) for _ in range(count)])


@pytest.mark.parametrize("name", GATED)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_halves_of_one_projection_need_no_copy(name, dtype, backend):
    ours, theirs, _ = PAIRS[name]
    packed = torch.randn(6, 5, 34).to(dtype)
    assert_within_rounding(lambda x: ours(*x.chunk(2, -1)), lambda x: theirs(*x.chunk(2, -1)), [packed])
    assert_within_rounding(lambda x: ours(*x.mT.chunk(2, -1)), lambda x: theirs(*x.mT.chunk(2, -1)), [packed.mT])


@pytest.mark.parametrize("name", GATED)
def test_no_elements_give_empty_gradients(name, backend):
    ours, _, _ = PAIRS[name]
    for shape in ((0,), (0, 3), (3, 0)):
        assert [r.shape for r in results(ours, [torch.zeros(shape)] * 2)] == [torch.Size(shape)] * 3


@pytest.mark.parametrize("name", LEAN)
def test_the_activated_gate_is_saved_unless_it_is_free_or_asked_not_to_be(name, backend):
    ours, theirs, _ = PAIRS[name]
    lean = LEAN[name]
    gate, up = torch.randn(8, 64, requires_grad=True), torch.randn(8, 64, requires_grad=True)
    one = 4 * 8 * 64
    assert saved_bytes(lambda: theirs(gate, up)) == 3 * one
    assert saved_bytes(lambda: ours(gate, up)) == (2 if backend == "native" else 3) * one
    assert saved_bytes(lambda: lean(gate, up)) == 2 * one


@pytest.mark.parametrize("name", PAIRS)
def test_per_example_hessians_agree_with_torch(name):
    ours, theirs, count = PAIRS[name]
    inputs = tuple(torch.randn(3, 4) for _ in range(count))
    losses = [lambda *x, f=f: f(*x).square().sum() for f in (ours, theirs)]
    got, want = (torch.func.vmap(torch.func.hessian(loss))(*inputs) for loss in losses)
    torch.testing.assert_close(got, want)


def test_what_does_not_fit_together_is_named():
    with pytest.raises(RuntimeError, match=r"swiglu: `up` is torch.float32 of shape \[3\], expected"):
        swiglu(torch.randn(2, 3), torch.randn(3))
    with pytest.raises(RuntimeError, match="`approximate` is 'fast', expected 'none' or 'tanh'"):
        geglu(torch.randn(2), torch.randn(2), "fast")
    with pytest.raises(ValueError, match="swiglu: memory must be one of 'save', 'recompute', got 'less'"):
        swiglu(torch.randn(2), torch.randn(2), memory="less")
    with pytest.raises(RuntimeError, match="approximate"):
        gelu(torch.randn(2), "fast")
