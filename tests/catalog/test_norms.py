"""Layer norm and RMS norm: torch's values and derivatives, sums over rows in float32, the residual in one pass."""

import pytest
import torch
from agreement import saved_bytes
from half_precision import DTYPES, assert_within_rounding, results
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional

from gradsmith import check
from gradsmith.catalog import add_layer_norm, add_rms_norm, layer_norm, rms_norm

EPS = 1e-3


def double(*shape):
    return torch.randn(shape, dtype=torch.float64).requires_grad_()


def norms(shape):
    """name -> (ours, torch's, the shapes of their arguments before normalized_shape's)."""
    return {
        "layer_norm": (
            lambda x, w, b: layer_norm(x, shape, w, b, EPS),
            lambda x, w, b: functional.layer_norm(x, shape, w, b, EPS),
            "xwb",
        ),
        "layer_norm without weight": (
            lambda x: layer_norm(x, shape, eps=EPS),
            lambda x: functional.layer_norm(x, shape, eps=EPS),
            "x",
        ),
        "layer_norm without bias": (
            lambda x, w: layer_norm(x, shape, w, eps=EPS),
            lambda x, w: functional.layer_norm(x, shape, w, eps=EPS),
            "xw",
        ),
        "rms_norm": (
            lambda x, w: rms_norm(x, shape, w, EPS),
            lambda x, w: functional.rms_norm(x, shape, w, EPS),
            "xw",
        ),
        "rms_norm without weight": (
            lambda x: rms_norm(x, shape, eps=EPS),
            lambda x: functional.rms_norm(x, shape, eps=EPS),
            "x",
        ),
        "add_layer_norm": (
            lambda x, r, w, b: add_layer_norm(x, r, shape, w, b, EPS),
            lambda x, r, w, b: (functional.layer_norm(x + r, shape, w, b, EPS), x + r),
            "xrwb",
        ),
        "add_rms_norm": (
            lambda x, r, w: add_rms_norm(x, r, shape, w, EPS),
            lambda x, r, w: (functional.rms_norm(x + r, shape, w, EPS), x + r),
            "xrw",
        ),
    }


NAMES = list(norms((1,)))


def arguments(names, batch, shape, dtype):
    return [torch.randn(*(batch if name in "xr" else ()), *shape).to(dtype) + (name == "w") for name in names]


@pytest.mark.parametrize("name", NAMES)
def test_first_and_second_derivatives_agree_with_differences(name):
    ours, theirs, names = norms((3, 2))[name]
    inputs = tuple(value.requires_grad_() for value in arguments(names, (2,), (3, 2), torch.float64))
    torch.testing.assert_close(ours(*inputs), theirs(*inputs))
    assert gradcheck(ours, inputs, check_forward_ad=True)
    assert gradgradcheck(ours, inputs)


@pytest.mark.parametrize("name", NAMES)
def test_the_checker_has_nothing_to_say(name, backend):
    ours, _, names = norms((5,))[name]
    report = check(ours, tuple(value.requires_grad_() for value in arguments(names, (2, 3), (5,), torch.float64)))
    assert report.findings == ()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("batch", "shape"), [((5, 4), (33,)), ((7,), (4, 8)), ((), (40,)), ((11,), (3,))])
def test_every_dtype_is_within_rounding_of_float64(name, dtype, batch, shape, backend):
    ours, theirs, names = norms(shape)[name]
    inputs = arguments(names, batch, shape, dtype)

    def exact(*values):
        if "r" in names:  # the sum is rounded before it is normalised
            total = (inputs[0] + inputs[1]).double() - values[0].detach() - values[1].detach()
            return theirs(values[0], values[1] + total, *values[2:])
        return theirs(*values)

    assert_within_rounding(ours, exact, inputs)


@pytest.mark.parametrize("name", NAMES)
def test_rows_of_one_element_agree_with_torch(name, backend):
    ours, theirs, names = norms((1,))[name]
    inputs = arguments(names, (6,), (1,), torch.float32)
    for one, two in zip(results(ours, inputs), results(theirs, inputs), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["layer_norm", "rms_norm"])
def test_in_bfloat16_the_gradients_of_weight_and_bias_over_65536_rows_are_right_to_a_third_of_a_percent(name, backend):
    ours, theirs, names = norms((64,))[name]
    inputs = arguments(names, (65536,), (64,), torch.bfloat16)
    got = results(ours, inputs)
    want = results(theirs, [value.double() for value in inputs], torch.bfloat16)
    for mine, exact in zip(got[2:], want[2:], strict=True):
        assert (mine.double() - exact).norm() < 3e-3 * exact.norm()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("batch", [(0,), (2, 0)])
def test_no_rows_give_empty_outputs_and_gradients_of_zero(name, batch, backend):
    ours, _, names = norms((6,))[name]
    found = results(ours, arguments(names, batch, (6,), torch.float32))
    assert found[0].shape == (*batch, 6)
    for gradient in found[-1:] if "w" in names else ():
        assert torch.equal(gradient, torch.zeros(6))


@pytest.mark.parametrize("name", NAMES)
def test_transposed_and_expanded_arguments_and_upstream_give_the_same(name, backend):
    ours, _, names = norms((6,))[name]
    inputs = arguments(names, (4, 5), (6,), torch.float32)
    strided = [value.mT.contiguous().mT if value.dim() > 1 else value for value in inputs]

    def total(*values):
        outs = ours(*values)
        return sum(out.sum() for out in (outs if isinstance(outs, tuple) else (outs,)))

    for one, two in zip(results(total, inputs), results(total, strided), strict=True):
        torch.testing.assert_close(one, two)


@pytest.mark.parametrize("needed", ["input", "weight", "bias"])
def test_only_the_gradient_that_is_needed_is_computed(needed, backend):
    x, w, b = torch.randn(6, 9), torch.rand(9), torch.rand(9)
    leaf = {"input": x, "weight": w, "bias": b}[needed].requires_grad_()
    (got,) = torch.autograd.grad(layer_norm(x, (9,), w, b).square().sum(), leaf)
    (want,) = torch.autograd.grad(functional.layer_norm(x, (9,), w, b).square().sum(), leaf)
    torch.testing.assert_close(got, want)


def test_a_half_precision_input_takes_weights_in_float32(backend):
    x, w = torch.randn(6, 9).bfloat16().requires_grad_(), torch.rand(9, requires_grad=True)
    gradients = torch.autograd.grad(rms_norm(x, (9,), w).sum(), (x, w))
    assert [g.dtype for g in gradients] == [torch.bfloat16, torch.float32]


def test_the_default_epsilon_of_rms_norm_is_that_of_the_dtype(backend):
    for dtype in DTYPES:
        x = torch.full((1, 4), 1e-3).to(dtype)
        torch.testing.assert_close(rms_norm(x, (4,)), functional.rms_norm(x, (4,)))


@pytest.mark.parametrize("name", ["layer_norm", "rms_norm"])
def test_no_more_is_saved_than_torch_saves(name, backend):
    ours, theirs, names = norms((64,))[name]
    inputs = [value.requires_grad_() for value in arguments(names, (32,), (64,), torch.float32)]
    assert saved_bytes(lambda: ours(*inputs)) <= saved_bytes(lambda: theirs(*inputs))


def test_the_sum_is_saved_and_neither_of_its_terms(backend):
    x, r, w = torch.randn(32, 64, requires_grad=True), torch.randn(32, 64, requires_grad=True), torch.ones(64)
    assert saved_bytes(lambda: add_rms_norm(x, r, (64,), w)[0]) == 4 * (32 * 64 + 64 + 32)


def test_vmap_and_per_example_gradients_agree_with_torch(backend):
    x, w = torch.randn(3, 4, 5), torch.rand(5)
    for ours, theirs in ((layer_norm, functional.layer_norm), (rms_norm, functional.rms_norm)):
        got, want = (
            torch.func.vmap(torch.func.grad(lambda x, w, f=f: f(x, (5,), w).square().sum(), argnums=(0, 1)), (0, None))(
                x, w
            )
            for f in (ours, theirs)
        )
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize("op", [layer_norm, rms_norm])
def test_a_shape_that_does_not_fit_is_named(op):
    with pytest.raises(RuntimeError, match=r"normalized_shape is \[4\], and `input` of shape \[2, 3\]"):
        op(torch.randn(2, 3), (4,))


@pytest.mark.parametrize("op", [add_layer_norm, add_rms_norm])
def test_a_residual_of_another_shape_or_dtype_is_named(op):
    with pytest.raises(RuntimeError, match=r"`residual` is torch.float32 of shape \[3\]"):
        op(torch.randn(2, 3), torch.randn(3), (3,))
    with pytest.raises(RuntimeError, match=r"expected torch.float32 of shape \[2, 3\]"):
        op(torch.randn(2, 3), torch.randn(2, 3).bfloat16(), (3,))


def test_a_weight_of_another_shape_is_named():
    with pytest.raises(RuntimeError, match=r"`weight` has shape \[1\], expected normalized_shape \[3\]"):
        rms_norm(torch.randn(2, 3), (3,), torch.ones(1))
