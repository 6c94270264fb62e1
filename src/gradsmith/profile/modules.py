"""What each module of a model keeps for the backward."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from gradsmith.profile.saved import storage_of

OUTSIDE = "(outside the model)"


def saved_by_module(model: Module, call: Callable[[], Any]) -> Counter[str]:
    """Bytes that `call` saves for its backward, by the path of the module that saves them ("" is the model itself).

    Each storage counts once, for the innermost module that saves it first; what is saved outside the forward of the
    model, by a loss for instance, counts for `OUTSIDE`. The random number generators and the buffers of the model are
    left as they were.

    >>> layer = torch.nn.Linear(20, 30)
    >>> saved_by_module(layer, lambda: layer(torch.ones(5, 20)))
    Counter({'': 400})
    """
    inside = [OUTSIDE]
    owners: dict[int, tuple[str, int]] = {}

    def pack(tensor: Tensor) -> Tensor:
        address, size = storage_of(tensor)
        owners.setdefault(address, (inside[-1], size))
        return tensor

    with ExitStack() as stack:
        stack.enter_context(_buffers_kept(model))
        stack.enter_context(torch.random.fork_rng())
        for path, module in model.named_modules():
            _follow(module, path, inside, stack)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            result = call()
    del result  # until here the graph held what was saved, so that no address was used twice
    counts: Counter[str] = Counter()
    for path, size in owners.values():
        counts[path] += size
    return counts


def _follow(module: Module, path: str, inside: list[str], stack: ExitStack) -> None:
    """Keep the path of the module on top of `inside` while its forward runs."""

    def enter(*_: Any) -> None:
        inside.append(path)

    def leave(*_: Any) -> None:
        inside.pop()

    stack.callback(module.register_forward_pre_hook(enter).remove)
    stack.callback(module.register_forward_hook(leave, always_call=True).remove)


@contextmanager
def _buffers_kept(model: Module) -> Iterator[None]:
    """Running means and the like, put back in the end."""
    kept = {name: buffer.clone() for name, buffer in model.named_buffers()}
    try:
        yield
    finally:
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                buffer.copy_(kept[name])
