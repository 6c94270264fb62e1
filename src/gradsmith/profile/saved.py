"""What a call keeps for its backward, through torch's saved-tensor hooks, each storage once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from gradsmith.profile.work import Work


@dataclass(frozen=True)
class Saved:
    """Bytes that are kept for the backward.

    `total` counts every storage once, `new` leaves out those of arguments and parameters, which live on without it.
    """

    total: int
    new: int


def saved(work: Work) -> Saved:
    """Run the forward of `work` and count.

    What a Function keeps on its `ctx` by plain assignment is out of reach of the hooks and not counted.
    """
    with recording() as storages:
        outputs = work.forward()
    known = {key for tensor in (*work.arguments, *work.parameters) for key, _ in [storage_of(tensor)]}
    new = sum(size for key, size in storages.items() if key not in known)
    del outputs  # until here the graph held what was saved, so that no address was used twice
    return Saved(sum(storages.values()), new)


@contextmanager
def recording() -> Iterator[dict[int, int]]:
    """Within the block, each storage that is saved: its address and its bytes.

    The graph must outlive the use of the addresses.
    """
    storages: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storages.update([storage_of(tensor)])
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield storages


def storage_of(tensor: Tensor) -> tuple[int, int]:
    """Address and bytes of what holds the elements; of a tensor without a storage (sparse), those of its values."""
    try:
        storage = tensor.untyped_storage()
    except (NotImplementedError, RuntimeError):
        return id(tensor), tensor.numel() * tensor.element_size()
    return storage.data_ptr(), storage.nbytes()


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """The bytes of the elements of different tensors; views share nothing here."""
    unique = {(storage_of(t)[0], t.storage_offset(), t.shape): t for t in tensors}
    return sum(t.numel() * t.element_size() for t in unique.values())
