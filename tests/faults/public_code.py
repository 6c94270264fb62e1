"""What public packages do, in our own words: habits that are no mistakes, and mistakes that were found in them."""

from __future__ import annotations

import torch
from registry import clean, fault, positive, rand
from torch.autograd import Function


@clean("surrogate-gradient", inputs=lambda: (rand(3, 5),))
class NoisyBelowThreshold(Function):
    """The backward draws, in the order of the memory: other numbers for a transposed input are no fault."""

    @staticmethod
    def forward(ctx, x):
        spikes = (x > 0).to(x.dtype)
        ctx.save_for_backward(spikes.bool())
        return spikes

    @staticmethod
    def backward(ctx, grad):
        (above,) = ctx.saved_tensors
        return grad * torch.where(above, 1.0, 0.2 * (torch.rand_like(grad.expand_as(above)) - 0.5))


@clean("surrogate-gradient", inputs=lambda: (rand(3, 5),))
class PassesWhereItSpikes(Function):
    """The surrogate is the output itself, so that a second derivative follows the surrogate once more."""

    @staticmethod
    def forward(ctx, x):
        spikes = (x > 0).to(x.dtype)
        ctx.save_for_backward(spikes)
        return spikes

    @staticmethod
    def backward(ctx, grad):
        (spikes,) = ctx.saved_tensors
        return grad * spikes


@fault("double-backward-wrong", inputs=lambda: (rand(3, 5),))
class PassesWhereItSpikesWithoutGraph(Function):
    @staticmethod
    def forward(ctx, x):
        spikes = (x > 0).to(x.dtype)
        ctx.save_for_backward(spikes)
        return spikes

    @staticmethod
    def backward(ctx, grad):
        (spikes,) = ctx.saved_tensors
        with torch.no_grad():
            return grad * spikes


@clean("gradient-modifier", inputs=lambda: (rand(3, 5), rand(3, 5, seed=1)))
class ValueOfOneGradientToBoth(Function):
    """The forward never looks at `x`: that it takes one of another shape says nothing."""

    @staticmethod
    def forward(ctx, x, replacement):
        return replacement.view_as(replacement)

    @staticmethod
    def backward(ctx, grad):
        return grad, grad


@clean("surrogate-gradient", inputs=lambda: (rand(6, 3), 6))
class RateOverSteps(Function):
    """The number of steps is given beside them."""

    @staticmethod
    def forward(ctx, current, steps):
        ctx.steps = steps
        return (current.cumsum(0) > 1).to(current.dtype)

    @staticmethod
    def backward(ctx, grad):
        return grad.mean(0).expand(ctx.steps, *grad.shape[1:]).clone(), None


@fault("edge-shape", inputs=lambda: (rand(6, 3), 4), argument="current")
class RateOverFixedSteps(Function):
    @staticmethod
    def forward(ctx, current, scale):
        return current * scale

    @staticmethod
    def backward(ctx, grad):
        return torch.stack([4 * grad[t] for t in range(6)]), None


@clean(inputs=lambda: (rand(4), rand(3, 4, seed=1)))
class PassesThroughWhatNeedsGradient(Function):
    """A constant's output is marked: where only one input needs a gradient, only one output carries one."""

    @staticmethod
    def forward(ctx, times, weight):
        ctx.mark_non_differentiable(*(value for value in (times, weight) if not value.requires_grad))
        ctx.set_materialize_grads(False)
        return times * 2, weight * 3

    @staticmethod
    def backward(ctx, grad_times, grad_weight):
        return (
            None if grad_times is None or not ctx.needs_input_grad[0] else grad_times * 2,
            None if grad_weight is None or not ctx.needs_input_grad[1] else grad_weight * 3,
        )


@clean("surrogate-gradient", inputs=lambda: (rand(3, 5),))
class FixedPoint(Function):
    """A staircase whose steps are narrower than a usual step of a difference."""

    @staticmethod
    def forward(ctx, x):
        return (x * 64).to(torch.int64).to(x.dtype) / 64

    @staticmethod
    def backward(ctx, grad):
        return grad.clone()


@clean("surrogate-gradient", inputs=lambda: (rand(6, 3), torch.tensor(4.0, requires_grad=True)))
class ThresholdOfASurrogate(Function):
    """No spike at this threshold: its gradient agrees with the slope, 0, by accident, and elsewhere does not."""

    @staticmethod
    def forward(ctx, current, threshold):
        ctx.save_for_backward(current, threshold)
        return (current > threshold).to(current.dtype) * threshold

    @staticmethod
    def backward(ctx, grad):
        current, threshold = ctx.saved_tensors
        near = (current - threshold).abs() < 9
        above = current > threshold
        return (
            grad * near if ctx.needs_input_grad[0] else None,
            0.5 * (grad * above).sum() if ctx.needs_input_grad[1] else None,
        )


@clean("surrogate-gradient", inputs=lambda: (rand(4, 6),))
class HardAndSoft(Function):
    """One output is a choice, whose gradient is a surrogate, the other has a derivative."""

    @staticmethod
    def forward(ctx, logits):
        soft = logits.softmax(-1)
        ctx.save_for_backward(logits)
        return torch.zeros_like(soft).scatter(-1, soft.argmax(-1, keepdim=True), 1.0), soft

    @staticmethod
    def backward(ctx, grad_hard, grad_soft):
        (logits,) = ctx.saved_tensors
        soft = logits.softmax(-1)
        grad = 2 * grad_hard + grad_soft
        return soft * (grad - (grad * soft).sum(-1, keepdim=True))


@fault("gradient-wrong", "gradient-scale", "gradient-sign", inputs=lambda: (rand(4, 6),), argument="logits")
class HardAndWrongSoft(Function):
    @staticmethod
    def forward(ctx, logits):
        soft = logits.softmax(-1)
        ctx.save_for_backward(logits)
        return torch.zeros_like(soft).scatter(-1, soft.argmax(-1, keepdim=True), 1.0), soft

    @staticmethod
    def backward(ctx, grad_hard, grad_soft):
        (logits,) = ctx.saved_tensors
        soft = logits.softmax(-1)
        grad = 2 * grad_hard + 2 * grad_soft
        return soft * (grad - (grad * soft).sum(-1, keepdim=True))


def covariance() -> torch.Tensor:
    root = rand(4, 4, dtype=torch.float64).detach()
    return (root @ root.mT).requires_grad_()


@clean(inputs=lambda: (covariance(), rand(4, 3, dtype=torch.float64)))
class QuadraticForms(Function):
    """The formula rests on the matrix being symmetric, which other sizes of it must stay."""

    @staticmethod
    def forward(ctx, matrix, rhs):
        if matrix.dim() != 2:
            raise ValueError(f"a matrix, not {matrix.dim()} dimensions")
        ctx.save_for_backward(matrix, rhs)
        return (rhs * (matrix @ rhs)).sum(-2)

    @staticmethod
    def backward(ctx, grad):
        matrix, rhs = ctx.saved_tensors
        return (
            rhs @ (grad.unsqueeze(-1) * rhs.mT) if ctx.needs_input_grad[0] else None,
            2 * (matrix @ rhs) * grad.unsqueeze(-2) if ctx.needs_input_grad[1] else None,
        )


@clean("surrogate-gradient", inputs=lambda: (rand(4, 5),))
class ClampSte(Function):
    """Says in its name that it passes the gradient straight through where it clamps."""

    @staticmethod
    def forward(ctx, x):
        return x.clamp(-0.5, 0.5)

    @staticmethod
    def backward(ctx, grad):
        return grad.clone()


@clean(inputs=lambda: (positive(4, 5, 1), torch.tensor(0.3), torch.tensor(2.01)))
class TensorClampSte(Function):
    """Nothing is clamped as given, and it says what it does where something is."""

    @staticmethod
    def forward(ctx, x, low, high):
        return torch.where(x > high, high, torch.where(x < low, low, x))

    @staticmethod
    def backward(ctx, grad):
        return grad.clone(), None, None


@fault("gradient-wrong", "gradient-scale", inputs=lambda: (positive(4, 5),), argument="x")
class ClampWithoutItsMaskElsewhere(Function):
    @staticmethod
    def forward(ctx, x):
        return x.clamp(0.3, 9.0)

    @staticmethod
    def backward(ctx, grad):
        return grad.clone()


@fault("gradient-wrong", "gradient-scale", inputs=lambda: (rand(4, 5),), argument="x")
class ClampWithoutItsMask(Function):
    @staticmethod
    def forward(ctx, x):
        return x.clamp(-0.5, 0.5)

    @staticmethod
    def backward(ctx, grad):
        return grad.clone()


@fault("gradient-wrong", "gradient-scale", inputs=lambda: (rand(4, 5),), argument="x")
class ScaledClampSte(Function):
    """Where it does not clamp, it has a derivative like any other."""

    @staticmethod
    def forward(ctx, x):
        return 2 * x.clamp(-0.5, 0.5)

    @staticmethod
    def backward(ctx, grad):
        return grad.clone()


@clean(
    "surrogate-gradient",
    inputs=lambda: (rand(4, 5), torch.tensor(0.3, requires_grad=True)),
    also=("gradient-shape",),
)
class SpikeWithThreshold(Function):
    """The threshold's gradient is left to the engine to sum, which for a surrogate, too, does no harm."""

    @staticmethod
    def forward(ctx, x, threshold):
        ctx.save_for_backward(x, threshold)
        return (x / threshold).floor()

    @staticmethod
    def backward(ctx, grad):
        x, threshold = ctx.saved_tensors
        return (
            grad / threshold if ctx.needs_input_grad[0] else None,
            -grad * x / threshold**2 if ctx.needs_input_grad[1] else None,
        )


@clean("gradient-modifier", inputs=lambda: (rand(4, 3), torch.tensor(0.5)))
class ReversalByATensor(Function):
    """The forward does not look at the strength, which says nothing about strengths of other shapes."""

    @staticmethod
    def forward(ctx, x, strength):
        ctx.save_for_backward(strength)
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad):
        return -grad * ctx.saved_tensors[0], None


@clean("surrogate-gradient", inputs=lambda: (rand(4, 5),))
class ClampSteBackIntoRange(Function):
    """Lets through what leads back into the range: twice the upstream, twice the gradient, but no linear map."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clamp(-0.5, 0.5)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        leads_out = ((x > 0.5) & (grad < 0)) | ((x < -0.5) & (grad > 0))
        return torch.where(leads_out, 0.0, grad)


class SpikesInSinglePrecision(Function):
    """Whatever it is given, it answers in float32."""

    @staticmethod
    def backward(ctx, grad):
        (potential,) = ctx.saved_tensors
        return grad * torch.exp(-2 * (2 * potential - 1).abs())


@clean("surrogate-gradient", inputs=lambda: (rand(4, 5, seed=1),))
class SavesThePotential(SpikesInSinglePrecision):
    @staticmethod
    def forward(ctx, potential):
        ctx.save_for_backward(potential)
        return (2 * potential >= 1).float()


@fault("double-backward-wrong", inputs=lambda: (rand(4, 5, seed=1),), argument="potential")
class SavesACloneOfThePotential(SpikesInSinglePrecision):
    """A clone made in forward has no graph: the surrogate's own derivative is lost."""

    @staticmethod
    def forward(ctx, potential):
        ctx.save_for_backward(potential.clone())
        return (2 * potential >= 1).float()


@fault("double-backward-wrong", inputs=lambda: (rand(3, 5),), also=("not-repeatable", "unhooked-save"))
class SquareOnceOnDetached(Function):
    """A backward that runs only once on a graph does not hide what else is wrong with it."""

    @staticmethod
    def forward(ctx, x):
        ctx.x = x.detach().clone()
        return x * x

    @staticmethod
    def backward(ctx, grad):
        x = ctx.x
        del ctx.x
        return 2 * grad * x


@clean(inputs=lambda: (rand(3, 5),))
class BackwardInSinglePrecision(Function):
    """The forward takes float64 as well, the backward does not: it is checked as it was given."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x[::2] * x[::2]

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        row = torch.arange(0, x.shape[0], 2)
        return torch.zeros_like(x, dtype=torch.float).index_put((row,), 2 * grad * x[row])


@fault("gradient-wrong", "gradient-scale", inputs=lambda: (rand(3, 5),), argument="potential")
class SpikesAndDecays(Function):
    """That the spikes' upstream is not used is no fault: they are constant. What came of the potential is wrong."""

    @staticmethod
    def forward(ctx, potential):
        return (potential > 0).to(potential.dtype), 0.9 * potential.sin()

    @staticmethod
    def backward(ctx, grad_spikes, grad_decayed):
        return 0.7 * grad_decayed


@fault("gradient-ignores-upstream", inputs=lambda: (rand(3, 5),), argument="potential", says="output 1")
class DecaysTwice(Function):
    """Of the outputs that are not constant, one is not asked."""

    @staticmethod
    def forward(ctx, potential):
        return (potential > 0).to(potential.dtype), 0.9 * potential, 0.8 * potential

    @staticmethod
    def backward(ctx, grad_spikes, grad_decayed, grad_again):
        return 0.8 * grad_again
