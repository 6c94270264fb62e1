"""Every op of the catalog by its name: for tools that go through all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gradsmith.catalog.cross_entropy import cross_entropy
from gradsmith.catalog.exp import exp
from gradsmith.catalog.linear import linear
from gradsmith.define.op import Op

CATALOG: Mapping[str, Op[Any, Any]] = {
    "exp": exp,
    "linear": linear,
    "cross_entropy": cross_entropy,
}
