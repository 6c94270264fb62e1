"""lightly: gathering over processes, here in a group of one (https://docs.lightly.ai)."""

import tempfile

import torch
from lightly.utils.dist import GatherLayer

with tempfile.NamedTemporaryFile() as file:
    torch.distributed.init_process_group("gloo", init_method=f"file://{file.name}", rank=0, world_size=1)
GatherLayer.apply(torch.randn(4, 3, requires_grad=True))
