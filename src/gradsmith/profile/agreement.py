"""Whether two functions compute the same: without that, comparing their speed means nothing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gradsmith.profile.work import ProfileError, Work


def difference(work: Work, reference: Work) -> float:
    """The greatest relative difference of an output or of an argument's gradient, in the 2-norm.

    Both run from the same state of the random number generators. Gradients of parameters are left out: two modules
    have each their own.

    Raises:
        ProfileError: they return other numbers of tensors, or tensors of other shapes.
    """
    ours, theirs = _results(work), _results(reference)
    shapes = [[tuple(t.shape) for t in results] for results in (ours, theirs)]
    if shapes[0] != shapes[1]:
        raise ProfileError(
            f"profile: {work.name} and {reference.name} do not return the same: shapes {shapes[0]} against {shapes[1]}"
        )
    return max((_relative(a, b) for a, b in zip(ours, theirs, strict=True)), default=0.0)


def _results(work: Work) -> list[Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        outputs, gradients = work.run()
    wanted = [t for t in work.arguments if t.requires_grad]
    of_arguments: Sequence[tuple[Tensor, Tensor | None]] = list(zip(wanted, gradients, strict=False))
    return [*outputs, *(torch.zeros_like(t) if g is None else g for t, g in of_arguments)]


def _relative(ours: Tensor, theirs: Tensor) -> float:
    wide = torch.complex128 if theirs.is_complex() else torch.float64
    a, b = ours.detach().to("cpu", wide), theirs.detach().to("cpu", wide)
    distance, size = (a - b).nan_to_num().norm(), b.nan_to_num().norm()
    if bool((a.isnan() != b.isnan()).any()):
        return float("inf")
    return float(distance / size) if size else float(distance)
