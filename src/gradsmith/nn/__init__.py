"""Modules over the catalog, interchangeable with torch.nn's."""

from gradsmith.nn.linear import Linear as Linear
from gradsmith.nn.loss import CrossEntropyLoss as CrossEntropyLoss
from gradsmith.nn.swap import Swap as Swap
from gradsmith.nn.swap import SwapError as SwapError
from gradsmith.nn.swap import swap as swap
