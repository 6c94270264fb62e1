"""kornia: the focal loss and the null space of the five-point solver (https://github.com/kornia/kornia)."""

import torch
from kornia.geometry.epipolar.essential import _NullSpaceBasis
from kornia.losses.focal import _TargetLogSoftmax

logits = torch.randn(2, 5, 3, 4, requires_grad=True)
target = torch.randint(0, 5, (2, 3, 4))
target = target.unsqueeze(1)
_TargetLogSoftmax.apply(logits, target, None)
_TargetLogSoftmax.apply(logits, target, target != 1)
_NullSpaceBasis.apply(torch.randn(2, 6, 9, dtype=torch.float64, requires_grad=True))
