"""Modules built of ops give the gradients of a single process under DDP, FSDP and activation checkpointing (gloo)."""

import os

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


def worker(rank, size, wrapper, port):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=size)
    try:
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
            torch.testing.assert_close(
                got, expected[name], rtol=1e-4, atol=1e-6, msg=lambda m, name=name: f"{name}: {m}"
            )
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize(
    ("wrapper", "size"), [("ddp", 2), ("ddp", 4), ("ddp checkpoint", 2), ("fsdp", 2), ("fsdp checkpoint", 4)]
)
def test_gradients_are_those_of_a_single_process(wrapper, size):
    port = 29500 + os.getpid() % 1000
    mp.spawn(worker, args=(size, wrapper, port), nprocs=size)


def test_a_split_backward_gives_the_gradients_of_inputs_and_weights_apart():
    """As a pipeline schedule does: first the gradient of the input, later those of the weights."""
    net, (x, y) = Net(), batch()
    x.requires_grad_()
    loss = gs.cross_entropy(net(x), y)
    (for_input,) = torch.autograd.grad(loss, x, retain_graph=True)
    for_weights = torch.autograd.grad(loss, list(net.parameters()))
    whole = torch.autograd.grad(gs.cross_entropy(net(x), y), [x, *net.parameters()])
    torch.testing.assert_close([for_input, *for_weights], list(whole))
