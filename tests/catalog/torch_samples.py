"""The arguments that torch tests a function of its own with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch


def samples(name: str, dtype: torch.dtype) -> Iterator[Any]:
    """torch's `SampleInput`s of an operator: `.input`, `.args` and `.kwargs`, requiring gradients."""
    pytest.importorskip("expecttest", reason="torch's own test inputs need it")
    from torch.testing._internal.common_methods_invocations import op_db

    (info,) = [op for op in op_db if op.name == name and not op.variant_test_name]
    return info.sample_inputs("cpu", dtype, requires_grad=True)  # type: ignore[no-any-return]
