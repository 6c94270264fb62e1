"""Our own medicine: the checker has nothing to say about any op of the catalog."""

import math

import pytest
import torch

from gradsmith import check
from gradsmith.catalog import CATALOG


def double(*shape, needs=True):
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_(needs)


def share(*shape, needs=True):
    """Numbers between 0 and 1."""
    return double(*shape).detach().sigmoid().requires_grad_(needs)


TARGETS = torch.tensor([0, 2, 1, -100])

CASES = {
    "exp": [((double(3, 4),), {}), ((double(5).detach().to(torch.complex128).requires_grad_(),), {})],
    "linear": [
        ((double(2, 3, 4), double(5, 4), double(5)), {}),
        ((double(3, 4), double(1, 4), double(1)), {}),
        ((double(3, 4), double(2, 4)), {}),
        ((double(3, 4, needs=False), double(2, 4), double(2, needs=False)), {}),
    ],
    "embedding": [
        ((torch.tensor([[0, 2, 2], [4, 1, 0]]), double(5, 3)), {}),
        ((torch.tensor(3), double(5, 3)), {}),
    ],
    "dropout": [
        ((double(5, 7),), {}),
        ((double(5, 7),), {"p": 0.2, "memory": "seed"}),
        ((double(5, 7),), {"training": False}),
    ],
    "cross_entropy": [
        ((double(4, 3), TARGETS), {}),
        ((double(4, 3), TARGETS), {"reduction": "none", "label_smoothing": 0.1}),
        ((double(4, 3), TARGETS, double(3).detach().exp()), {"reduction": "sum"}),
        ((double(4, 3), TARGETS, double(3).detach().exp().requires_grad_()), {"label_smoothing": 0.2}),
        ((double(4, 3), double(4, 3).detach().softmax(1).requires_grad_()), {"label_smoothing": 0.2}),
        ((double(3), torch.tensor(1)), {}),
        ((double(2, 3, 4), torch.tensor([[0, 1, 2, 0], [2, 2, 1, 0]])), {}),
    ],
    "huber_loss": [
        ((double(3, 4), share(3, 4)), {}),
        ((double(3, 4), share(3, 4)), {"reduction": "none", "delta": 0.5, "weight": share(4)}),
        ((double(3, 4), share(3, 4, needs=False)), {"reduction": "sum", "weight": share(3, 1, needs=False)}),
    ],
    "smooth_l1_loss": [
        ((double(3, 4), share(3, 4)), {}),
        ((double(3, 4), share(3, 4)), {"reduction": "none", "beta": 0.5}),
        ((double(3, 4), share(3, 4, needs=False)), {"reduction": "sum", "beta": 0}),
    ],
    "binary_cross_entropy_with_logits": [
        ((double(3, 4), share(3, 4)), {}),
        ((double(3, 4), share(3, 4), share(4)), {"reduction": "none", "pos_weight": share(3, 1)}),
        ((double(3, 4), share(3, 4, needs=False), share(4, needs=False)), {"reduction": "sum"}),
    ],
    "focal_loss": [
        ((double(3, 4), share(3, 4)), {}),
        ((double(3, 4), share(3, 4, needs=False).detach().round()), {"reduction": "mean", "alpha": -1, "gamma": 0.5}),
        ((double(3, 4), share(3, 4)), {"reduction": "sum", "gamma": 0.0}),
    ],
    "kl_div": [
        ((double(3, 4), share(3, 4)), {}),
        ((double(3, 4), share(3, 4, needs=False)), {"reduction": "batchmean"}),
        ((double(3, 4), double(4)), {"reduction": "sum", "log_target": True}),
        ((double(3, 4), share(3, 4)), {"reduction": "none"}),
    ],
    "cosine_similarity": [
        ((double(3, 4), share(3, 4)), {}),
        ((double(3, 1, 4), double(2, 4)), {"dim": -1}),
        ((double(4), share(4, needs=False)), {"dim": 0, "eps": 0.1}),
    ],
    "normalize": [
        ((double(3, 4),), {}),
        ((double(3, 4, 2),), {"p": 1.0, "dim": 0}),
        ((double(3, 4),), {"p": 3.0, "dim": -1}),
        ((double(3, 4),), {"p": math.inf, "dim": (0, 1)}),
    ],
    "group_norm": [
        ((double(3, 4, 5), 2, double(4), double(4)), {}),
        ((double(3, 4, 2, 2), 4), {"eps": 0.1}),
        ((double(3, 4, 4), 2, double(4)), {}),
    ],
    "bilinear": [
        ((double(3, 4), double(3, 5), double(2, 4, 5), double(2)), {}),
        ((double(2, 3, 4), double(2, 3, 5), double(1, 4, 5)), {}),
        ((double(4), double(5, needs=False), double(2, 4, 5)), {}),
    ],
    "rotary_embedding": [
        ((double(2, 3, 6), double(3, 2), double(3, 2)), {}),
        ((double(2, 3, 6), double(3, 3, needs=False), double(3, 3, needs=False)), {"interleaved": True}),
    ],
}


@pytest.mark.parametrize(
    ("name", "inputs", "options"),
    [pytest.param(n, *case, id=f"{n}-{i}") for n, cases in CASES.items() for i, case in enumerate(cases)],
)
def test_check_finds_neither_error_nor_warning(name, inputs, options):
    report = check(CATALOG[name], inputs, options)
    assert report.of("error") == ()
    assert report.of("warning") == ()


@pytest.mark.parametrize("options", [{"padding_idx": 1}, {"scale_grad_by_freq": True}], ids=str)
def test_gradients_that_are_no_derivatives_by_definition_are_those_of_torch(options):
    inputs = (torch.tensor([0, 2, 2, 1]), double(5, 3))
    report = check(CATALOG["embedding"], inputs, options, reference=torch.nn.functional.embedding)
    assert report.of("error") == ()
    assert report.of("warning") == ()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["exp", "linear", "cross_entropy"])
def test_compiled_they_are_the_same(name):
    inputs, options = CASES[name][0]
    report = check(CATALOG[name], inputs, options, only="compile-wrong")
    assert report.findings == ()
    assert report.checked
