"""Modules built of ops give the gradients of a single process under DDP, FSDP and activation checkpointing (gloo)."""

import os
import time
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

import gradsmith as gs

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not dist.is_available() or not dist.is_gloo_available(), reason="needs torch.distributed and gloo"
    ),
]


class Net(nn.Module):
    def __init__(self, checkpoint=False):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.checkpoint = gs.nn.Linear(6, 8), gs.nn.Linear(8, 4), checkpoint

    def forward(self, x):
        hidden = lambda x: gs.surrogates.sign_ste(self.first(x)) * gs.exp(-self.first(x).square())
        if self.checkpoint:
            return self.second(torch.utils.checkpoint.checkpoint(hidden, x, use_reentrant=False))
        return self.second(hidden(x))


def batch():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(8, 6, generator=generator), torch.randint(4, (8,), generator=generator)


def single_process_gradients():
    net, (x, y) = Net(), batch()
    gs.cross_entropy(net(x), y).backward()
    return {name: parameter.grad for name, parameter in net.named_parameters()}


def compare(rank, size, wrapper):
    """The gradients of this rank's model, after the ranks have met, against those of a single process."""
    expected, (x, y) = single_process_gradients(), batch()
    shard = slice(rank * 8 // size, (rank + 1) * 8 // size)
    net = Net(checkpoint="checkpoint" in wrapper)
    if "fsdp" in wrapper:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh("cpu", (size,))
        for layer in (net.first, net.second):
            fully_shard(layer, mesh=mesh)
        model = fully_shard(net, mesh=mesh)
    else:
        model = nn.parallel.DistributedDataParallel(net)
    gs.cross_entropy(model(x[shard]), y[shard]).backward()
    for name, parameter in net.named_parameters():
        got = parameter.grad
        got = got.full_tensor() if hasattr(got, "full_tensor") else got
        torch.testing.assert_close(got, expected[name], rtol=1e-4, atol=1e-6, msg=lambda m, name=name: f"{name}: {m}")


def compare_opaque(rank, size, wrapper):
    """An opaque operator on a sharded tensor: the shards are gathered, and the gradient is that of the whole."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    raw = gs.opaque(lambda x: torch.empty_like(x))(opaque_square)
    square = gs.op(raw, x=lambda grad, x: 2 * grad * x)
    x = torch.arange(8.0).reshape(4, 2)
    parts = distribute_tensor(x, init_device_mesh("cpu", (size,)), [Shard(0)]).requires_grad_()
    out = square(parts)
    torch.testing.assert_close(out.full_tensor(), x.square())
    (slope,) = torch.autograd.grad(out.sum(), parts)
    torch.testing.assert_close(slope.full_tensor(), 2 * x)


def opaque_square(x):
    return torch.from_numpy(x.numpy() ** 2)


def worker(rank, size, wrapper, rendezvous):
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=size, timeout=timedelta(seconds=60)
    )
    (compare_opaque if wrapper == "opaque on shards" else compare)(rank, size, wrapper)
    dist.barrier()
    os._exit(0)  # all is compared; gloo's own teardown can wait for ever on a rank that has gone


def spawn(size, wrapper, rendezvous, seconds=150):
    """Run the workers; a rank that fails or hangs fails the test and leaves none behind."""
    context = mp.spawn(worker, args=(size, wrapper, rendezvous), nprocs=size, join=False)
    deadline = time.monotonic() + seconds
    try:
        while not context.join(timeout=1):
            assert time.monotonic() < deadline, f"{wrapper} with {size} processes did not end in {seconds} s"
    finally:
        for process in context.processes:
            process.kill()


@pytest.mark.parametrize(
    ("wrapper", "size"),
    [("ddp", 2), ("ddp", 4), ("ddp checkpoint", 2), ("fsdp", 2), ("fsdp checkpoint", 4), ("opaque on shards", 2)],
)
def test_gradients_are_those_of_a_single_process(wrapper, size, tmp_path):
    spawn(size, wrapper, tmp_path / "rendezvous")


def test_a_split_backward_gives_the_gradients_of_inputs_and_weights_apart():
    """As a pipeline schedule does: first the gradient of the input, later those of the weights."""
    net, (x, y) = Net(), batch()
    x.requires_grad_()
    loss = gs.cross_entropy(net(x), y)
    (for_input,) = torch.autograd.grad(loss, x, retain_graph=True)
    for_weights = torch.autograd.grad(loss, list(net.parameters()))
    whole = torch.autograd.grad(gs.cross_entropy(net(x), y), [x, *net.parameters()])
    torch.testing.assert_close([for_input, *for_weights], list(whole))
