"""rotary_embedding: the rotation of the paper in both orders of features, and its inverse for a gradient."""

import pytest
import torch
from agreement import assert_agrees, gradients, saved_bytes
from half_precision import DTYPES, assert_within_rounding
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck

from gradsmith import check
from gradsmith.catalog import rotary_embedding


def plain(x, cos, sin, interleaved=False):
    """As models write it: every feature times the cosine, its partner times the sine."""
    count = 2 * cos.shape[-1]
    turning, rest = x[..., :count], x[..., count:]
    if interleaved:
        cos, sin = (angle.repeat_interleave(2, -1) for angle in (cos, sin))
        partner = torch.stack((-turning[..., 1::2], turning[..., 0::2]), -1).flatten(-2)
    else:
        cos, sin = (torch.cat((angle, angle), -1) for angle in (cos, sin))
        partner = torch.cat((-turning[..., count // 2 :], turning[..., : count // 2]), -1)
    return torch.cat((turning * cos + partner * sin, rest), -1)


def angles(length, count, dtype=torch.float64):
    theta = torch.arange(length).double()[:, None] / 10000 ** (torch.arange(count).double() / count)
    return theta.cos().to(dtype), theta.sin().to(dtype)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 3), max_size=2),
    st.integers(0, 4),
    st.integers(0, 3),
    st.integers(0, 3),
    st.booleans(),
    st.booleans(),
    st.integers(0, 99),
)
def test_value_and_derivatives_are_those_of_the_plain_formula(leading, length, count, rest, interleaved, strided, seed):
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(shape, generator=generator, dtype=torch.float64)
    x, cos, sin = draw(*leading, length, 2 * count + rest), draw(length, count), draw(length, count)
    x = x.mT.contiguous().mT if strided else x
    ours, theirs = (lambda x, c, s, f=f: f(x, c, s, interleaved) for f in (rotary_embedding, plain))
    assert_agrees(ours, theirs, (x, cos, sin), exact=False, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("interleaved", [False, True])
def test_differences_agree_in_both_modes(interleaved, backend):
    double = lambda *shape: torch.randn(shape, dtype=torch.float64, requires_grad=True)
    inputs = double(2, 3, 5, 7), double(5, 3), double(5, 3)
    ours = lambda x, c, s: rotary_embedding(x, c, s, interleaved)
    assert gradcheck(ours, inputs, check_forward_ad=True)
    assert gradgradcheck(ours, inputs)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("interleaved", [False, True])
def test_every_dtype_is_within_rounding_of_float64(dtype, interleaved, backend):
    cos, sin = angles(6, 8, torch.float32)
    x = torch.randn(2, 3, 6, 20).to(dtype)
    assert_within_rounding(
        lambda x: rotary_embedding(x, cos, sin, interleaved),
        lambda x: plain(x, cos.double(), sin.double(), interleaved),
        [x],
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("angle_dtype", [torch.float32, torch.bfloat16])
def test_queries_of_one_projection_and_angles_of_any_layout(dtype, interleaved, angle_dtype, backend):
    theta = torch.randn(7, 24)
    cos, sin = theta.cos().to(angle_dtype)[:, ::2], theta.sin().to(angle_dtype)[:, ::2]
    packed = torch.randn(2, 7, 3, 5, 32).to(dtype)
    ours, theirs = (
        lambda x, f=f, c=c, s=s: f(x.permute(2, 0, 3, 1, 4)[1], c, s, interleaved)
        for f, c, s in ((rotary_embedding, cos, sin), (plain, cos.double(), sin.double()))
    )
    assert_within_rounding(ours, theirs, [packed])
    x = packed.permute(2, 0, 3, 1, 4)[1]
    assert ours(packed).stride() == torch.empty_like(x).stride()
    assert_within_rounding(lambda x: ours(x.mT.contiguous().mT), lambda x: theirs(x.mT.contiguous().mT), [packed])


@pytest.mark.parametrize("interleaved", [False, True])
def test_in_float32_too_the_derivatives_are_those_of_the_plain_formula(interleaved, backend):
    x, (cos, sin) = torch.randn(3, 4, 6, 20), angles(6, 8, torch.float32)
    ours, theirs = (lambda x, c, s, f=f: f(x, c, s, interleaved) for f in (rotary_embedding, plain))
    assert_agrees(ours, theirs, (x, cos, sin), exact=False, rtol=1e-5, atol=1e-5)
    assert_agrees(ours, theirs, (x[:0], cos, sin), exact=False, rtol=1e-5, atol=1e-5)
    assert_agrees(ours, theirs, (x, cos[:, :0], sin[:, :0]), exact=False, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("interleaved", [False, True])
def test_products_of_queries_and_keys_depend_on_their_distance_alone(interleaved):
    cos, sin = angles(12, 4)
    query, key = torch.randn(8, dtype=torch.float64), torch.randn(8, dtype=torch.float64)
    queries = rotary_embedding(query.expand(12, 8), cos, sin, interleaved)
    keys = rotary_embedding(key.expand(12, 8), cos, sin, interleaved)
    scores = queries @ keys.mT
    for distance in range(-5, 6):
        diagonal = scores.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal))


def test_the_gradient_is_the_rotation_back():
    cos, sin = angles(5, 3)
    x, upstream = torch.randn(2, 5, 6, dtype=torch.float64), torch.randn(2, 5, 6, dtype=torch.float64)
    (got,) = gradients(lambda x: rotary_embedding(x, cos, sin), (x,), upstream)
    torch.testing.assert_close(rotary_embedding(got, cos, sin), upstream)


def test_the_checker_has_nothing_to_say(backend):
    for dtype in (torch.float32, torch.float64):
        x, (cos, sin) = torch.randn(2, 3, 5, 9, dtype=dtype, requires_grad=True), angles(5, 4, dtype)
        report = check(rotary_embedding, (x, cos, sin))
        assert report.of("error") == report.of("warning") == ()


def test_the_input_is_not_saved_for_its_gradient(backend):
    cos, sin = angles(16, 4, torch.float32)
    x = torch.randn(8, 2, 16, 8, requires_grad=True)
    assert saved_bytes(lambda: rotary_embedding(x, cos, sin)) == 2 * 4 * 16 * 4


def test_vmap_and_per_example_gradients_agree_with_the_plain_formula():
    x, (cos, sin) = torch.randn(3, 5, 6), angles(5, 3, torch.float32)
    got, want = (
        torch.func.vmap(torch.func.grad(lambda x, f=f: f(x, cos, sin).pow(3).sum()))(x)
        for f in (rotary_embedding, plain)
    )
    torch.testing.assert_close(got, want)


def test_what_does_not_fit_is_named():
    x = torch.randn(2, 5, 6)
    cos, sin = angles(5, 3, torch.float32)
    with pytest.raises(RuntimeError, match=r"`sin` has shape \[4, 3\], expected \[5, 3\] as `cos`"):
        rotary_embedding(x, cos, sin[1:])
    with pytest.raises(RuntimeError, match=r"`cos` of shape \[5, 3\] turns two features of `x`"):
        rotary_embedding(x[..., :5], cos, sin)
    with pytest.raises(
        RuntimeError, match=r"leading dimensions of `cos`, \[5\], do not broadcast to those of `x`, \[2, 4\]"
    ):
        rotary_embedding(x[:, :4], cos, sin)
