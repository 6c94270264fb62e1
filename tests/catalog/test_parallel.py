"""Blocks side by side: each is computed once, in any thread, as it would be computed in the one that asks."""

import threading
import time

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from gradsmith import catalog, native
from gradsmith.catalog import _private
from gradsmith.catalog.dropout import dropout
from gradsmith.catalog.parallel import Widened, parallel_for

TENSOR = torch.zeros(1)


@pytest.fixture
def two_threads():
    if _private.parallel_region is None:
        pytest.skip("this torch computes without OpenMP")
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


def threads_of(count=40, like=TENSOR):
    """Which threads took the blocks, each of which takes a while."""

    def body(_):
        time.sleep(0.001)
        return threading.get_ident()

    return set(parallel_for(range(count), body, like))


def test_the_results_are_in_the_order_of_the_blocks(two_threads):
    assert parallel_for(range(1000), lambda block: block * block, TENSOR) == [i * i for i in range(1000)]


def test_torchs_threads_take_the_blocks(two_threads):
    assert len(threads_of()) == 2


def test_a_block_alone_stays_in_its_thread(two_threads):
    assert threads_of(1) == {threading.get_ident()}


def test_with_one_thread_there_is_no_other():
    assert threads_of() == {threading.get_ident()}


def test_without_openmp_all_blocks_are_computed_in_the_thread_that_asks(two_threads, monkeypatch):
    monkeypatch.setattr(_private, "parallel_region", None)
    assert threads_of() == {threading.get_ident()}


class Watching(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "watch",
    [
        Watching,
        lambda: torch.device("cpu"),
        lambda: torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]),
    ],
    ids=["dispatch mode", "function mode", "profiler"],
)
def test_what_looks_on_in_one_thread_sees_all_blocks(two_threads, watch):
    with watch():
        assert threads_of() == {threading.get_ident()}


def test_a_tensor_that_is_not_torchs_own_does_not_change_the_thread(two_threads):
    class Other(torch.Tensor):
        pass

    assert threads_of(like=TENSOR.as_subclass(Other)) == {threading.get_ident()}


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_every_thread_computes_in_the_mode_of_the_one_that_asks(two_threads, mode):
    def body(_):
        time.sleep(0.001)
        return threading.get_ident(), (torch.is_grad_enabled(), torch.is_inference_mode_enabled())

    with mode():
        taken = set(parallel_for(range(40), body, TENSOR))
        assert {modes for _, modes in taken} == {(False, torch.is_inference_mode_enabled())}
    assert len(taken) == 2


@pytest.mark.parametrize("count", [1, 40])
def test_autocast_is_off_in_a_block(two_threads, count):
    with torch.autocast("cpu", torch.bfloat16):
        assert not any(parallel_for(range(count), lambda _: torch.is_autocast_enabled("cpu"), TENSOR))
        assert torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("kind", [IndexError, KeyboardInterrupt])
def test_an_exception_of_a_block_is_raised_and_the_next_loop_runs(two_threads, kind):
    def body(block):
        if block == 3:
            raise kind("block 3")
        return block

    with pytest.raises(kind, match="block 3"):
        parallel_for(range(100), body, TENSOR)
    assert parallel_for(range(100), lambda block: block, TENSOR) == list(range(100))


def test_a_loop_within_a_block_is_done_in_its_thread(two_threads):
    def body(block):
        return parallel_for(range(3), lambda inner: (block, inner, threading.get_ident()), TENSOR)

    for block, inner in enumerate(parallel_for(range(20), body, TENSOR)):
        assert [item[:2] for item in inner] == [(block, 0), (block, 1), (block, 2)]
        assert len({item[2] for item in inner}) == 1


def test_several_threads_of_python_may_have_loops_at_once(two_threads):
    results = [None] * 4

    def run(number):
        results[number] = parallel_for(range(50), lambda block: number * block, TENSOR)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [[number * block for block in range(50)] for number in range(4)]


def test_a_widened_block_is_in_memory_that_the_next_call_overwrites():
    widened = Widened(torch.float32)
    first, second = torch.ones(4, 2, dtype=torch.bfloat16), torch.full((3, 2), 2.0, dtype=torch.float16)
    (one,) = widened(first)
    assert one.dtype == torch.float32
    assert one.equal(first.float())
    (two,) = widened(second)
    assert two.equal(second.float())
    assert two.data_ptr() == one.data_ptr()
    both = widened(first, first)
    assert both[0].data_ptr() != both[1].data_ptr()
    assert widened(one)[0] is one


def test_each_thread_has_widened_blocks_of_its_own(two_threads):
    widened = Widened(torch.float32)

    def body(block):
        (own,) = widened(torch.full((100,), float(block), dtype=torch.bfloat16))
        time.sleep(0.001)
        return own.eq(block).all().item()

    assert all(parallel_for(range(40), body, TENSOR))


ROWS, COLUMNS = 60, 33
LABELS = torch.arange(ROWS) % COLUMNS


def angles():
    theta = torch.arange(ROWS)[:, None] * torch.linspace(0, 1, COLUMNS // 2)
    return theta.cos(), theta.sin()


OPS = {
    "attention with a bias": lambda x, y: catalog.attention(
        *[x[:56].unflatten(0, (2, 4, 7))] * 3, attn_mask=y[:28, :7].unflatten(0, (4, 7))
    ),
    "binary_cross_entropy_with_logits": lambda x, y: catalog.binary_cross_entropy_with_logits(x, y.sigmoid()),
    "cosine_similarity": catalog.cosine_similarity,
    "cross_entropy": lambda x, _: catalog.cross_entropy(x, LABELS),
    "cross_entropy, all options": lambda x, y: catalog.cross_entropy(
        x, LABELS, weight=y[0].detach().abs(), ignore_index=3, label_smoothing=0.1
    ),
    "cross_entropy of each row": lambda x, _: catalog.cross_entropy(x, LABELS, reduction="none"),
    "dropout": lambda x, _: dropout(x),
    "focal_loss": lambda x, y: catalog.focal_loss(x, y.sigmoid()),
    "geglu": lambda x, y: catalog.geglu(x, y, memory="recompute"),
    "huber_loss": catalog.huber_loss,
    "kl_div": lambda x, y: catalog.kl_div(x, y.sigmoid(), reduction="batchmean"),
    "layer_norm": lambda x, y: catalog.layer_norm(x.bfloat16(), (COLUMNS,), y[0], y[1]),
    "logsumexp": lambda x, _: catalog.logsumexp(x, -1),
    "normalize": lambda x, _: catalog.normalize(x),
    "rms_norm": lambda x, y: catalog.rms_norm(x, (COLUMNS,), y[0]),
    "rotary_embedding": lambda x, _: catalog.rotary_embedding(x, *angles()),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("op", OPS.values(), ids=OPS)
def test_an_op_in_blocks_has_the_same_bits_on_any_number_of_threads(op, dtype, two_threads, at_any_size):
    inputs = [torch.randn(ROWS, COLUMNS).to(dtype).requires_grad_() for _ in range(2)]
    results = []
    with native.disabled():
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            torch.manual_seed(0)
            out = op(*inputs)
            gradients = torch.autograd.grad(out.float().square().sum(), inputs, allow_unused=True)
            results.append([out.detach(), *[grad for grad in gradients if grad is not None]])
    for others in results[1:]:
        assert all(torch.equal(one, other) for one, other in zip(results[0], others, strict=True))
