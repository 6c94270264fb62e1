"""Functions that return their argument and change its gradient.

Each returns a copy: an op that handed back its argument, or a view of it, would fail in a following in-place op.
"""

from __future__ import annotations

from torch import Tensor
from torch.linalg import vector_norm

from gradsmith.define.errors import CallError, MissingFormula
from gradsmith.define.op import Op


def _grad_reverse(x: Tensor, scale: float = 1.0) -> Tensor:
    """x, with the gradient `-scale * grad`.

    Between features and a classifier of their domain, the features learn what does not tell the domains apart.

    Saves: nothing. Source: Ganin et al. 2016, https://arxiv.org/abs/1409.7495.

    >>> import torch
    >>> x = torch.tensor(2.0, requires_grad=True)
    >>> torch.autograd.grad(grad_reverse(x, 0.5), x)
    (tensor(-0.5000),)
    """
    return x


grad_reverse = Op(
    _grad_reverse,
    {"x": lambda grad, scale: -scale * grad},
    name="grad_reverse",
    declared="modifier",
    surrogate=lambda x, scale=1.0: -scale * x,
)


def _grad_scale(x: Tensor, scale: float) -> Tensor:
    """x, with the gradient `scale * grad`: a learning rate of its own for all that comes before.

    Saves: nothing. Source: `GradMultiply` of Gehring et al. 2017, https://arxiv.org/abs/1705.03122, section 3.5.

    >>> import torch
    >>> x = torch.tensor(2.0, requires_grad=True)
    >>> torch.autograd.grad(grad_scale(x, 0.1), x)
    (tensor(0.1000),)
    """
    return x


grad_scale = Op(
    _grad_scale,
    {"x": lambda grad, scale: scale * grad},
    name="grad_scale",
    declared="modifier",
    surrogate=lambda x, scale: scale * x,
)


def _grad_clip(x: Tensor, value: float | None = None, norm: float | None = None) -> Tensor:
    """x, whose gradient is clipped here, in the middle of the graph.

    Args:
        x: any shape.
        value: bring every element of the gradient into [-value, value].
        norm: scale the gradient down to this Euclidean norm, where it is longer. One of the two is given, positive.

    Saves: nothing. Forward mode has no upstream gradient to clip, and raises MissingFormula.
    Source: Pascanu, Mikolov and Bengio 2013, https://arxiv.org/abs/1211.5063, section 3.2; by value: Graves 2013,
    https://arxiv.org/abs/1308.0850, section 4.

    >>> import torch
    >>> x = torch.tensor([1.0, 1.0], requires_grad=True)
    >>> torch.autograd.grad((torch.tensor([3.0, 4.0]) * grad_clip(x, norm=1.0)).sum(), x)
    (tensor([0.6000, 0.8000]),)
    """
    limits = [limit for limit in (value, norm) if limit is not None]
    if len(limits) != 1 or not limits[0] > 0:
        raise CallError(f"grad_clip: give a positive value= or a positive norm=, got value={value} and norm={norm}")
    return x


def _clipped(grad: Tensor, value: float | None, norm: float | None) -> Tensor:
    if norm is None:
        assert value is not None  # the forward took one of the two
        return grad.clamp(-value, value)
    length: Tensor = vector_norm(grad)
    return grad * (norm / length.clamp(min=norm))


grad_clip = Op(_grad_clip, {"x": _clipped}, name="grad_clip", declared="modifier")


@grad_clip.jvp
def _no_forward_mode(tangent_x: Tensor) -> Tensor:
    raise MissingFormula(
        "grad_clip: it clips the upstream gradient, which forward mode does not have; differentiate in reverse mode"
    )
