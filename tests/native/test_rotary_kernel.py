"""The kernel of the rotary embedding against float64, in strides, with features that are left alone."""

import pytest
import torch

from gradsmith import reuse_memory

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
UNIT = {torch.float32: 2**-22, torch.bfloat16: 2**-8, torch.float16: 2**-10}


def angles(leading, pairs):
    theta = torch.randn(*leading, pairs) * 3
    return theta.cos(), theta.sin()


def turned(x, cos, sin, interleaved, sign):
    """In float64."""
    x, c, s = x.double(), cos.double(), sin.double() * sign
    count = cos.shape[-1]
    a, b = (
        (x[..., 0 : 2 * count : 2], x[..., 1 : 2 * count : 2])
        if interleaved
        else (x[..., :count], x[..., count : 2 * count])
    )
    both = a * c - b * s, b * c + a * s
    return torch.cat(
        (torch.stack(both, -1).flatten(-2) if interleaved else torch.cat(both, -1), x[..., 2 * count :]), -1
    )


def assert_right(kernels, x, cos, sin, interleaved, sign):
    got, want = kernels.rotary(x, cos, sin, interleaved, sign), turned(x, cos, sin, interleaved, sign)
    assert (got.shape, got.dtype) == (x.shape, x.dtype)
    torch.testing.assert_close(got.double(), want, rtol=UNIT[x.dtype], atol=1e-6)
    assert torch.equal(got[..., 2 * cos.shape[-1] :], x[..., 2 * cos.shape[-1] :])
    return got


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pairs", [0, 1, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64, 75])
@pytest.mark.parametrize("rest", [0, 1, 20])
@pytest.mark.parametrize("sign", [1, -1])
def test_rows_of_any_length(kernels, interleaved, dtype, pairs, rest, sign):
    x = torch.randn(5, 2 * pairs + rest).to(dtype)
    assert_right(kernels, x, *angles((5,), pairs), interleaved, sign)


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_queries_of_one_projection_need_no_copy_and_keep_their_order_in_memory(kernels, interleaved, dtype):
    packed = torch.randn(2, 70, 3, 5, 32).to(dtype)
    cos, sin = (angle.expand(2, 5, 70, 12) for angle in angles((70,), 12))
    for x in packed.permute(2, 0, 3, 1, 4):
        got = assert_right(kernels, x, cos, sin, interleaved, 1)
        assert got.stride() == torch.empty_like(x).stride() == (70 * 5 * 32, 32, 5 * 32, 1)


def test_any_leading_dimensions_and_strides(kernels):
    wide = torch.randn(4, 6, 5, 40)
    views = [wide[::2, 1:, :, 3:33], wide.transpose(0, 2), wide[:1].expand(3, 6, 5, 40), wide[0, 0, 0], wide[:, :0]]
    views += [wide[:, :1, :, 7:], wide[0, 0, :1].expand(9, 40), wide[..., :1], wide.unfold(-1, 20, 3)]
    for x in views:
        pairs = x.shape[-1] // 2
        apart = [angle[..., 1:] for angle in angles(x.shape[:-1], pairs + 1)]
        shared = [angle.expand(*x.shape[:-1], pairs) for angle in angles((), pairs)]
        for cos, sin in (apart, shared, (apart[0], shared[1])):
            assert_right(kernels, x, cos, sin, False, 1)
            assert_right(kernels, x, cos, sin, True, -1)


def test_the_results_are_the_same_bits_on_any_number_of_threads(kernels, threads):
    x, (cos, sin) = torch.randn(700, 3, 96).transpose(0, 1), angles((3, 700), 40)
    results = []
    for count in (1, 2, 3, 7):
        threads(count)
        results.append([kernels.rotary(x, cos, sin, interleaved, 1) for interleaved in (False, True)])
    for other in results[1:]:
        assert all(torch.equal(one, two) for one, two in zip(results[0], other, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [64, 65, 96])
def test_large_results_in_new_and_in_used_memory_are_those_of_their_parts(kernels, dtype, size):
    length = 2**25 // dtype.itemsize // size // 64 // 8 * 8 + 8
    x, (cos, sin) = torch.randn(8, 8, length, size).to(dtype), angles((length,), 32)
    everything = lambda x: [
        kernels.rotary(x, *(angle.expand(*x.shape[:-1], 32) for angle in (cos, sin)), interleaved, 1)
        for interleaved in (False, True)
    ]
    want = [torch.cat(parts) for parts in zip(*map(everything, x.split(1)), strict=True)]
    with reuse_memory():
        for _ in range(3):
            assert all(torch.equal(a, b) for a, b in zip(everything(x), want, strict=True))


def test_what_it_cannot_take_is_refused(kernels):
    x, (cos, sin) = torch.randn(5, 8), angles((5,), 4)
    for bad in (cos.double(), cos[:4], torch.ones(5, 5), torch.ones(4, 5).t()):
        with pytest.raises(RuntimeError):
            kernels.rotary(x, bad, bad, False, 1)
    with pytest.raises(RuntimeError):
        kernels.rotary(torch.randn(8, 5).t(), cos, sin, False, 1)
