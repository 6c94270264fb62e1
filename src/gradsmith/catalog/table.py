"""Every op of the catalog by its name: for tools that go through all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gradsmith.catalog.activations import geglu, gelu, silu, swiglu
from gradsmith.catalog.attention import attention
from gradsmith.catalog.bilinear import bilinear
from gradsmith.catalog.binary_cross_entropy import binary_cross_entropy_with_logits, focal_loss
from gradsmith.catalog.cross_entropy import cross_entropy
from gradsmith.catalog.dropout import dropout
from gradsmith.catalog.embedding import embedding
from gradsmith.catalog.exp import exp
from gradsmith.catalog.group_norm import group_norm
from gradsmith.catalog.huber import huber_loss, smooth_l1_loss
from gradsmith.catalog.kl_div import kl_div
from gradsmith.catalog.layer_norm import add_layer_norm, layer_norm
from gradsmith.catalog.linear import linear
from gradsmith.catalog.linear_cross_entropy import linear_cross_entropy
from gradsmith.catalog.rms_norm import add_rms_norm, rms_norm
from gradsmith.catalog.rotary import rotary_embedding
from gradsmith.catalog.similarity import cosine_similarity, normalize
from gradsmith.catalog.softmax import log_softmax, logsumexp, softmax

CATALOG: Mapping[str, Callable[..., Any]] = {
    "exp": exp,
    "linear": linear,
    "embedding": embedding,
    "dropout": dropout,
    "attention": attention,
    "cross_entropy": cross_entropy,
    "huber_loss": huber_loss,
    "smooth_l1_loss": smooth_l1_loss,
    "binary_cross_entropy_with_logits": binary_cross_entropy_with_logits,
    "focal_loss": focal_loss,
    "kl_div": kl_div,
    "linear_cross_entropy": linear_cross_entropy,
    "cosine_similarity": cosine_similarity,
    "normalize": normalize,
    "group_norm": group_norm,
    "bilinear": bilinear,
    "rotary_embedding": rotary_embedding,
    "log_softmax": log_softmax,
    "logsumexp": logsumexp,
    "softmax": softmax,
    "add_layer_norm": add_layer_norm,
    "add_rms_norm": add_rms_norm,
    "layer_norm": layer_norm,
    "rms_norm": rms_norm,
    "geglu": geglu,
    "gelu": gelu,
    "silu": silu,
    "swiglu": swiglu,
}
