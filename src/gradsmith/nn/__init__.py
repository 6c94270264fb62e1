"""Modules over the catalog, interchangeable with torch.nn's."""

from gradsmith.nn.activation import GELU as GELU
from gradsmith.nn.activation import SiLU as SiLU
from gradsmith.nn.dropout import Dropout as Dropout
from gradsmith.nn.embedding import Embedding as Embedding
from gradsmith.nn.linear import Bilinear as Bilinear
from gradsmith.nn.linear import Linear as Linear
from gradsmith.nn.linear_loss import LinearCrossEntropyLoss as LinearCrossEntropyLoss
from gradsmith.nn.loss import BCEWithLogitsLoss as BCEWithLogitsLoss
from gradsmith.nn.loss import CrossEntropyLoss as CrossEntropyLoss
from gradsmith.nn.loss import HuberLoss as HuberLoss
from gradsmith.nn.loss import KLDivLoss as KLDivLoss
from gradsmith.nn.loss import SmoothL1Loss as SmoothL1Loss
from gradsmith.nn.norm import GroupNorm as GroupNorm
from gradsmith.nn.norm import LayerNorm as LayerNorm
from gradsmith.nn.norm import RMSNorm as RMSNorm
from gradsmith.nn.similarity import CosineSimilarity as CosineSimilarity
from gradsmith.nn.swap import Swap as Swap
from gradsmith.nn.swap import SwapError as SwapError
from gradsmith.nn.swap import swap as swap
