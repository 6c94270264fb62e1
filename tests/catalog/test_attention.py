"""attention: the values of torch's, derivatives of every order, and no matrix of scores."""

import pytest
import torch
from agreement import saved_bytes
from half_precision import DTYPES, assert_within_rounding
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from gradsmith import check
from gradsmith.catalog import _private, attention, blocks
from gradsmith.profile.peak import usage
from gradsmith.profile.work import Work


@pytest.fixture(params=["fused kernel", "blocks"])
def way(request, monkeypatch):
    """The CPU's kernel, and torch operations in blocks of three queries and keys."""
    if request.param == "blocks":
        monkeypatch.setattr(_private, "flash_attention", None)
    monkeypatch.setattr(blocks, "_SMALLEST", 3)
    monkeypatch.setattr(blocks, "_LARGEST", 3)
    return request.param


def reference(query, key, value, attn_mask=None, is_causal=False, scale=None):
    """torch's, written out; with a mask and a causal rule both."""
    rows, columns = query.shape[-2], key.shape[-2]
    mask = torch.zeros(rows, columns, dtype=query.dtype)
    if attn_mask is not None:
        hidden = attn_mask.dtype == torch.bool
        mask = mask.masked_fill(~attn_mask, -torch.inf) if hidden else mask + attn_mask
    if is_causal:
        mask = mask.masked_fill(~torch.ones(rows, columns).tril().bool(), -torch.inf)
    with sdpa_kernel(SDPBackend.MATH):
        return functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, scale=scale, enable_gqa=query.dim() > 2
        )


def double(*shape):
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


def derivatives(function, inputs, upstream, **options):
    """The value, the gradients twice (as numbers, and to be differentiated), and a second derivative by everything."""
    out = function(*inputs[:3], attn_mask=inputs[3] if len(inputs) > 3 else None, **options)
    plain = torch.autograd.grad(out, inputs, upstream, retain_graph=True)
    first = torch.autograd.grad(out, inputs, upstream, create_graph=True)
    energy = sum(grad.sin().mul(grad).sum() for grad in first)
    return [out, *plain, *first, *torch.autograd.grad(energy, [*inputs, upstream], allow_unused=True)]


MASKS = [None, (6, 7), (1, 7), (6, 1), (7,), (4, 6, 7), (2, 1, 1, 7)]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["", "2", "24", "224"]),
    st.sampled_from(MASKS),
    st.booleans(),
    st.sampled_from([None, 0.3]),
    st.sampled_from([5, 3]),
    st.sampled_from([4, 2, 1]),
)
def test_value_and_derivatives_are_those_of_torch(way, lead, mask_shape, is_causal, scale, features, heads):
    lead = [int(size) for size in lead]
    fewer = [*lead[:-1], heads] if len(lead) > 1 else lead
    query, key, value = double(*lead, 6, 5), double(*fewer, 7, 5), double(*fewer, 7, features)
    inputs = [query, key, value]
    if mask_shape is not None and len(mask_shape) <= len(lead) + 2 and (len(mask_shape) < 3 or len(lead) > 1):
        inputs.append(double(*mask_shape))
    upstream = double(*lead, 6, features)
    ours, theirs = (derivatives(f, inputs, upstream, is_causal=is_causal, scale=scale) for f in (attention, reference))
    for got, want in zip(ours, theirs, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("which", range(3))
def test_rows_that_share_memory_are_read_row_by_row(way, which):
    inputs = [double(2, 3, 5, 4) for _ in range(3)]
    for shared in (double(2, 3, 8).unfold(-1, 4, 1), double(2, 3, 1, 4).expand(2, 3, 5, 4)):
        inputs[which] = shared
        torch.testing.assert_close(attention(*inputs), attention(*[x.contiguous() for x in inputs]))


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("constant", [float, bool])
def test_a_query_that_sees_no_key_gives_zero_and_has_the_gradient_zero(way, is_causal, constant):
    visible = torch.rand(2, 1, 7, 7) > 0.7
    visible[:, :, [0, 4]] = False
    mask = visible if constant is bool else torch.zeros(visible.shape).masked_fill(~visible, -torch.inf)
    inputs, upstream = [double(2, 3, 7, 5) for _ in range(3)], double(2, 3, 7, 5)

    def masked(function):
        return lambda q, k, v, attn_mask=None, **options: function(q, k, v, attn_mask=mask, **options)

    ours, theirs = (derivatives(masked(f), inputs, upstream, is_causal=is_causal) for f in (attention, reference))
    for got, want in zip(ours, theirs, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-10)
    assert not ours[0][:, :, [0, 4]].any()
    assert not ours[1][:, :, [0, 4]].any()


@pytest.mark.parametrize(
    ("shapes", "options"),
    [
        (((2, 4, 4, 5), (2, 2, 4, 5), (2, 2, 4, 3)), {"is_causal": True, "scale": 0.5}),
        (((3, 4, 5), (3, 6, 5), (3, 6, 5)), {"attn_mask": torch.tensor([[1, 0, 1, 1, 0, 0]]).bool()}),
        (((2, 4, 5), (2, 6, 5), (2, 6, 5)), {"attn_mask": (1, 6)}),
    ],
)
def test_the_checker_has_nothing_to_say(shapes, options, way):
    options = {k: double(*v) if isinstance(v, tuple) else v for k, v in options.items()}
    assert check(attention, tuple(double(*shape) for shape in shapes), options).findings == ()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("is_causal", [False, True])
def test_every_dtype_is_within_rounding_of_float64(dtype, is_causal, way):
    query, key, value = (torch.randn(2, heads, 70, 16).to(dtype) for heads in (4, 2, 2))
    assert_within_rounding(
        lambda *inputs: attention(*inputs, is_causal=is_causal),
        lambda *inputs: reference(*inputs, is_causal=is_causal),
        (query, key, value),
        8,
    )


def test_scores_of_ten_thousand_and_infinities_of_a_mask(way):
    query, key, value = (torch.randn(1, 2, 6, 4) * size for size in (1e2, 1e2, 1))
    leaves = [tensor.requires_grad_() for tensor in (query, key, value)]
    out = attention(*leaves, scale=1.0)
    torch.testing.assert_close(out.double(), reference(*(leaf.double() for leaf in leaves), scale=1.0))
    assert all(grad.isfinite().all() for grad in torch.autograd.grad(out.sum(), leaves))


@pytest.mark.parametrize(
    "shapes",
    [((2, 0, 4), (2, 3, 4), (2, 3, 4)), ((0, 2, 4), (0, 3, 4), (0, 3, 4)), ((2, 2, 4), (2, 3, 4), (2, 3, 0))],
)
def test_sizes_of_zero(shapes, way):
    leaves = [torch.randn(shape).requires_grad_() for shape in shapes]
    out = attention(*leaves)
    assert out.shape == (*shapes[0][:-1], shapes[2][-1])
    assert all(not grad.any() for grad in torch.autograd.grad(out.sum(), leaves))


@pytest.mark.parametrize("order", [1, 2])
def test_without_keys_there_is_nothing_to_see(order, way):
    query, key, value = (torch.randn(2, size, 4, requires_grad=True) for size in (3, 0, 0))
    out = attention(query, key, value)
    assert torch.equal(out, torch.zeros(2, 3, 4))
    (grad,) = torch.autograd.grad(out.sum(), query, create_graph=order == 2)
    assert torch.equal(grad, torch.zeros(2, 3, 4))


def test_layouts_make_no_difference(way):
    packed = torch.randn(2, 7, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    query, key, value = packed.permute(2, 0, 3, 1, 4)
    mask = torch.randn(7, 2, dtype=torch.float64)[:, 1:].expand(7, 7)
    options = [{"attn_mask": mask}, {"attn_mask": mask.mT}, {"is_causal": True}]
    for option in options:
        sums = [f(query, key, value, **option) for f in (attention, reference)]
        torch.testing.assert_close(sums[0], sums[1])
        upstream = torch.randn(2, 5, 4, 7, dtype=torch.float64).permute(0, 2, 3, 1)
        for arriving in (upstream, upstream[:1, :1, :1, :1].expand_as(upstream)):
            torch.testing.assert_close(*(torch.autograd.grad(s, packed, arriving, retain_graph=True) for s in sums))
    torch.testing.assert_close(attention(query.mT, key.mT, value.mT), reference(query.mT, key.mT, value.mT))


def test_transforms_agree_with_torch():
    query, key, value = (torch.randn(2, 3, 6, 5) for _ in range(3))

    def energy(f):
        return lambda q, k, v: f(q, k, v, is_causal=True).sin().sum()

    for route in (
        lambda f: torch.func.vmap(torch.func.grad(energy(f), (0, 1, 2)))(query, key, value),
        lambda f: torch.func.vmap(f, (0, None, None))(query, key[0], value[0]),
        lambda f: torch.func.jvp(f, (query, key, value), (key, value, query)),
        lambda f: torch.func.jacfwd(torch.func.grad(energy(f)))(query[0, :1], key[0, :1], value[0, :1]),
        lambda f: torch.func.jacfwd(torch.func.jacfwd(energy(f)))(query[0, 0], key[0, 0], value[0, 0]),
    ):
        torch.testing.assert_close(route(attention), route(reference), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_compiled_whole_it_is_the_same():
    inputs = [double(1, 2, 6, 5) for _ in range(3)]
    for mask, is_causal in ((None, True), (double(6, 6), False)):
        leaves = inputs if mask is None else [*inputs, mask]

        def call(q, k, v, mask=mask, is_causal=is_causal):
            return attention(q, k, v, attn_mask=mask, is_causal=is_causal)

        results = []
        for function in (call, torch.compile(call, fullgraph=True, backend="aot_eager")):
            out = function(*inputs)
            results.append([out, *torch.autograd.grad(out.sin().sum(), leaves)])
        torch.testing.assert_close(*results)


def test_autocast_casts_as_torch_does(way):
    query, key, value = (torch.randn(1, 2, 6, 4, requires_grad=True) for _ in range(3))
    with torch.autocast("cpu", torch.bfloat16):
        out = attention(query, key, value)
    assert out.dtype == torch.bfloat16
    assert all(grad.dtype == torch.float32 for grad in torch.autograd.grad(out.sum(), (query, key, value)))


def test_results_are_the_same_bits_on_any_number_of_threads(way):
    inputs = [torch.randn(2, 4, 70, 16, requires_grad=True) for _ in range(3)]
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        out = attention(*inputs, is_causal=True)
        results.append([out, *torch.autograd.grad(out.square().sum(), inputs)])
    torch.set_num_threads(1)
    for other in results[1:]:
        assert all(torch.equal(one, two) for one, two in zip(results[0], other, strict=True))


LENGTH = 2048
SCORES = LENGTH * LENGTH * 4  # bytes


@pytest.mark.parametrize("fused", [True, False])
def test_the_scores_are_never_held(fused, monkeypatch):
    if not fused:
        monkeypatch.setattr(_private, "flash_attention", None)
        monkeypatch.setattr(blocks, "_SCORES", 2**14)
    inputs = tuple(torch.randn(1, 1, LENGTH, 8, requires_grad=True) for _ in range(3))
    assert usage(Work("attention", attention, inputs, {})).peak < SCORES / 8
    mask = torch.zeros(1, LENGTH, requires_grad=True)
    peak = usage(Work("attention", lambda *given: attention(*given[:3], attn_mask=given[3]), (*inputs, mask), {})).peak
    assert peak < SCORES / 2


def test_no_more_is_saved_than_by_torchs_fused_kernel(way):
    query, key, value = (torch.randn(2, 3, 64, 8, requires_grad=True) for _ in range(3))
    theirs = saved_bytes(lambda: functional.scaled_dot_product_attention(query, key, value))
    assert saved_bytes(lambda: attention(query, key, value)) <= theirs


@pytest.mark.parametrize(
    ("shapes", "mask", "message"),
    [
        (((2, 3, 4), (3, 4), (3, 4)), None, "`key` is .* same number of dimensions"),
        (((4,), (3, 4), (3, 4)), None, "two at least"),
        (((2, 3, 4), (2, 3, 5), (2, 3, 5)), None, r"`key` has shape \[2, 3, 5\], expected 4 features"),
        (((2, 3, 4), (2, 3, 4), (2, 4, 4)), None, r"`value` has shape \[2, 4, 4\], expected \[2, 3\]"),
        (((3, 3, 4), (2, 3, 4), (2, 3, 4)), None, "a multiple of those of key"),
        (((2, 2, 3, 4), (1, 2, 3, 4), (1, 2, 3, 4)), None, "batch dimensions must be the same"),
        (((2, 3, 4), (2, 3, 4), (2, 3, 4)), torch.zeros(2, 3), r"`attn_mask` has shape \[2, 3\].* \[2, 3, 3\]"),
        (((2, 3, 4), (2, 3, 4), (2, 3, 4)), torch.zeros(3, 3).long(), "`attn_mask` is torch.int64, expected bool"),
    ],
)
def test_what_does_not_fit_is_named(shapes, mask, message):
    with pytest.raises(RuntimeError, match=message):
        attention(*(torch.zeros(shape) for shape in shapes), attn_mask=mask)


def test_dtypes_must_be_the_same():
    with pytest.raises(RuntimeError, match=r"`value` is torch.bfloat16 of shape"):
        attention(torch.zeros(2, 4), torch.zeros(3, 4), torch.zeros(3, 4).bfloat16())


@pytest.mark.parametrize("missing", ["flash_attention", "flash_attention_backward"])
def test_without_torchs_private_kernels_blocks_take_their_place(missing, monkeypatch):
    monkeypatch.setattr(_private, missing, None)
    inputs, upstream = [double(2, 3, 7, 5) for _ in range(3)], double(2, 3, 7, 5)
    for got, want in zip(*(derivatives(f, inputs, upstream) for f in (attention, reference)), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-10)
