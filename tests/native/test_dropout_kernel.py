"""The kernel of dropout: the numbers of Philox, each bound to a place, whatever the strides, dtype and threads."""

import pytest
import torch

from gradsmith import reuse_memory

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
KNOWN = [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]  # of counter 0 and key 0, as the authors publish it
LOW = 2**32 - 1


def philox(counter, key):
    """Four words of 32 bits, as section 4.3 of the paper has them."""
    a, b, c, d = counter & LOW, counter >> 32, 0, 0
    low, high = key & LOW, key >> 32
    for round in range(10):
        left, right = 0xD2511F53 * a, 0xCD9E8D57 * c
        keys = (low + round * 0x9E3779B9) & LOW, (high + round * 0xBB67AE85) & LOW
        a, b, c, d = right >> 32 ^ b ^ keys[0], right & LOW, left >> 32 ^ d ^ keys[1], left & LOW
    return [a, b, c, d]


def numbers(count, seed):
    """For each place: the words of 16 counters in turn, the first word of all of them first."""
    result = []
    while len(result) < count:
        words = [philox(len(result) // 4 + lane, seed) for lane in range(16)]
        result += [words[lane][word] for word in range(4) for lane in range(16)]
    return torch.tensor(result[:count])


def mask(kernels, shape, p=0.5, seed=1, dtype=torch.float32):
    return kernels.dropout(torch.ones(shape, dtype=dtype), p, seed) != 0


@pytest.mark.parametrize("seed", [0, 1, 2**31, 2**62 - 1])
@pytest.mark.parametrize("p", [0.001, 0.1, 0.5, 0.75])
@pytest.mark.parametrize("dtype", DTYPES)
def test_an_element_is_dropped_by_the_number_of_its_place(kernels, seed, p, dtype):
    assert philox(0, 0) == KNOWN
    signed = (numbers(1000, seed) + 2**31) % 2**32  # the order of the bits read as signed integers
    assert torch.equal(mask(kernels, 1000, p, seed, dtype), signed >= round(p * 2**32))


@pytest.mark.parametrize("p", [1e-12, 2**-33, 1 - 2**-33, 1 - 1e-12])
def test_next_to_none_and_next_to_all(kernels, p):
    assert mask(kernels, 10_000, p).all() == (p < 0.5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [0, 1, 15, 16, 63, 64, 65, 1023, 4097])
def test_what_is_kept_is_divided_by_its_probability_and_rounded_once(kernels, dtype, size):
    x = torch.randn(size).to(dtype)
    want = torch.where(mask(kernels, size, 0.3, dtype=dtype), x.float() * (1 / 0.7), 0).to(dtype)
    torch.testing.assert_close(kernels.dropout(x, 0.3, 1), want, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_strides_do_not_matter(kernels, dtype):
    x = torch.randn(6, 5, 200).to(dtype)
    views = [x[:, 1:4], x[..., 7:100], x[..., ::3], x.mT, x.permute(2, 0, 1), x[:, :1].expand(6, 5, 200), x[0, 0, 0]]
    views += [x[:1, :, :1], x.flatten()[::7], x[:, :0], x[..., :1].expand(6, 5, 200), x[:, :, None, ::50]]
    for view in views:
        got = kernels.dropout(view, 0.4, 9)
        assert torch.equal(got, kernels.dropout(view.contiguous(), 0.4, 9))
        assert got.is_contiguous()


def test_an_infinity_or_nan_that_is_dropped_is_zero(kernels):
    for value in (torch.inf, -torch.inf, torch.nan):
        out = kernels.dropout(torch.full((1000,), value), 0.5, 3)
        assert torch.equal(out != 0, mask(kernels, 1000, 0.5, 3))


def test_the_mask_is_the_same_on_any_number_of_threads(kernels, threads):
    x = torch.randn(300, 1001)
    results = []
    for count in (1, 2, 3, 7):
        threads(count)
        results.append([kernels.dropout(x, 0.5, 4), kernels.dropout(x.t(), 0.5, 4), kernels.dropout(x[:, 1:], 0.5, 4)])
    for other in results[1:]:
        assert all(torch.equal(one, two) for one, two in zip(results[0], other, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("columns", [1024, 1001])
def test_large_results_in_new_and_in_used_memory_are_the_same(kernels, dtype, columns):
    x = torch.randn(2**25 // dtype.itemsize // columns // 2 * 2 + 64, columns).to(dtype)
    half = len(x) // 2
    want = kernels.dropout(x[:half], 0.5, 4)  # small enough to be written as ever
    with reuse_memory():
        for _ in range(3):
            got = kernels.dropout(x, 0.5, 4)
            assert torch.equal(got[:half], want)
            assert torch.equal(got != 0, mask(kernels, x.numel(), 0.5, 4, dtype).view_as(x))


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_elements_and_seeds_are_independent(kernels, p):
    """Correlations of a million elements are normal with a deviation of 1/1000: all within five of them."""
    count = 2**20
    dropped = torch.stack([(~mask(kernels, count, p, seed)).double() for seed in (5, 6, 5 + 2**32)])
    assert ((dropped.mean(1) - p).abs() < 5 * (p * (1 - p) / count) ** 0.5).all()
    z = (dropped - p) / (p * (1 - p)) ** 0.5
    apart = [1, 2, 3, 4, 15, 16, 17, 48, 63, 64, 65, 256, 1024, 2**16]  # neighbours, words, blocks, threads
    along = torch.stack([(z[:, :-step] * z[:, step:]).mean(1) for step in apart])
    between = torch.stack([(z[a] * z[b].roll(step)).mean() for a, b in ((0, 1), (0, 2)) for step in (0, 1, 16, 64)])
    assert along.abs().max() < 5e-3
    assert between.abs().max() < 5e-3


def test_bytes_of_masks_are_as_likely_as_chance_has_them(kernels):
    """Eight places at a time, side by side and one in each word and half: chi-squared with 255 degrees of freedom."""
    flat = mask(kernels, 2**21, 0.5, 11).view(-1, 64).long()
    weights = 2 ** torch.arange(8)
    for eight in (flat.view(-1, 8), flat[:, ::8], flat.view(-1, 4, 16)[..., ::8].reshape(-1, 8)):
        counts = torch.bincount((eight * weights).sum(1), minlength=256).double()
        chi = ((counts - counts.mean()).square() / counts.mean()).sum()
        assert 255 - 5 * 510**0.5 < chi < 255 + 5 * 510**0.5
