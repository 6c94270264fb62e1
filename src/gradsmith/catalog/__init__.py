"""SHIP: differentiable functions whose gradients are written by hand, a family a file."""

from gradsmith.catalog.activations import geglu as geglu
from gradsmith.catalog.activations import gelu as gelu
from gradsmith.catalog.activations import silu as silu
from gradsmith.catalog.activations import swiglu as swiglu
from gradsmith.catalog.attention import attention as attention
from gradsmith.catalog.binary_cross_entropy import binary_cross_entropy_with_logits as binary_cross_entropy_with_logits
from gradsmith.catalog.binary_cross_entropy import focal_loss as focal_loss
from gradsmith.catalog.cross_entropy import cross_entropy as cross_entropy
from gradsmith.catalog.exp import exp as exp
from gradsmith.catalog.huber import huber_loss as huber_loss
from gradsmith.catalog.huber import smooth_l1_loss as smooth_l1_loss
from gradsmith.catalog.kl_div import kl_div as kl_div
from gradsmith.catalog.layer_norm import add_layer_norm as add_layer_norm
from gradsmith.catalog.layer_norm import layer_norm as layer_norm
from gradsmith.catalog.linear import linear as linear
from gradsmith.catalog.linear_cross_entropy import linear_cross_entropy as linear_cross_entropy
from gradsmith.catalog.rms_norm import add_rms_norm as add_rms_norm
from gradsmith.catalog.rms_norm import rms_norm as rms_norm
from gradsmith.catalog.softmax import log_softmax as log_softmax
from gradsmith.catalog.softmax import logsumexp as logsumexp
from gradsmith.catalog.softmax import softmax as softmax
from gradsmith.catalog.table import CATALOG as CATALOG
