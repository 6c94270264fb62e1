"""memcnn: reversible blocks (https://memcnn.readthedocs.io)."""

import memcnn
import torch

block = memcnn.InvertibleModuleWrapper(memcnn.AdditiveCoupling(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)))
block(torch.randn(4, 6, requires_grad=True))
