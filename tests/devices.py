"""What the tests need to know of the machine."""

from __future__ import annotations

import pytest
import torch

no_device = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device here")
