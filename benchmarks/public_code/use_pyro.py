"""pyro: gradients of mixtures, and logarithms that stay finite (https://docs.pyro.ai)."""

import pyro.distributions as dist
import torch
from pyro.contrib.oed.eig import _EwmaLogFn
from pyro.ops.special import safe_log

torch.manual_seed(0)
safe_log(torch.rand(4, 3, requires_grad=True))
_EwmaLogFn.apply(torch.rand(4, requires_grad=True), torch.rand(4) + 0.5)
logits = torch.randn(3, requires_grad=True)
dist.RelaxedBernoulliStraightThrough(torch.tensor(1.0), logits=logits).rsample()
dist.RelaxedOneHotCategoricalStraightThrough(torch.tensor(1.0), logits=logits).rsample()
locs = torch.randn(3, 2, requires_grad=True)
dist.MixtureOfDiagNormals(locs, torch.rand(3, 2, requires_grad=True), logits).rsample()
dist.MixtureOfDiagNormalsSharedCovariance(locs, torch.rand(2, requires_grad=True), logits).rsample()
dist.GaussianScaleMixture(torch.rand(2, requires_grad=True), logits, torch.rand(3, requires_grad=True)).rsample()
factor = (torch.randn(2, 2).tril() + 2 * torch.eye(2)).requires_grad_()
dist.OMTMultivariateNormal(torch.zeros(2, requires_grad=True), factor).rsample()
dist.AVFMultivariateNormal(torch.zeros(2, requires_grad=True), factor, 0.1 * torch.rand(2, 4, 2)).rsample()
