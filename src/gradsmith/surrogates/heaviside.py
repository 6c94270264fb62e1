"""The spike of a spiking neuron: a step, differentiated by a curve."""

from __future__ import annotations

from torch import Tensor

from gradsmith.surrogates.curves import Curve, fast_sigmoid

_DEFAULT = fast_sigmoid()


def heaviside(x: Tensor, surrogate: Curve = _DEFAULT) -> Tensor:
    """1 where x >= 0, else 0; the gradient is `grad * surrogate.derivative(x)`.

    Args:
        x: the distance from the threshold, any shape, a floating-point dtype.
        surrogate: one of the curves of this package, `sigmoid(4.0)` for one, or a `Curve` of your own.

    Returns:
        A tensor of the shape and dtype of x; the step is 1 at 0 and at -0.0, and NaN gives 0.

    Saves: x. Source: Neftci, Mostafa and Zenke 2019, https://arxiv.org/abs/1901.09948.

    >>> import torch
    >>> from gradsmith.surrogates import triangle
    >>> v = torch.tensor([-0.5, 0.0, 2.0], requires_grad=True)
    >>> spikes = heaviside(v, triangle(1.0))
    >>> spikes.detach(), torch.autograd.grad(spikes.sum(), v)[0]
    (tensor([0., 1., 1.]), tensor([0.5000, 1.0000, 0.0000]))
    """
    return surrogate.step(x)
