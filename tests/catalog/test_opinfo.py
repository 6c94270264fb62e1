"""Every op that torch has, at the inputs that torch tests its own with: values, first and second derivatives.

They are the sample inputs of `torch.testing._internal`, which is private and needs expecttest; the tests use it, and
nothing else does.
"""

import pytest
import torch
from agreement import assert_agrees
from torch import Tensor

pytest.importorskip("expecttest", reason="torch's own test inputs need it; it comes with the extra [test]")

from torch.testing._internal.common_methods_invocations import op_db

from gradsmith import catalog
from gradsmith.catalog.dropout import dropout
from gradsmith.catalog.embedding import embedding

pytestmark = [
    pytest.mark.filterwarnings("ignore:reduction. 'mean' divides the total loss"),
    pytest.mark.filterwarnings("ignore:.*different to the input size"),
    pytest.mark.filterwarnings("ignore:.*is broadcast against"),
]
OURS = {
    "exp": catalog.exp,
    "softmax": catalog.softmax,
    "log_softmax": catalog.log_softmax,
    "logsumexp": catalog.logsumexp,
    "nn.functional.bilinear": catalog.bilinear,
    "nn.functional.binary_cross_entropy_with_logits": catalog.binary_cross_entropy_with_logits,
    "nn.functional.cosine_similarity": catalog.cosine_similarity,
    "nn.functional.cross_entropy": catalog.cross_entropy,
    "nn.functional.dropout": dropout,
    "nn.functional.embedding": lambda weight, input, **options: embedding(input, weight, **options),
    "nn.functional.gelu": catalog.gelu,
    "nn.functional.group_norm": catalog.group_norm,
    "nn.functional.huber_loss": catalog.huber_loss,
    "nn.functional.kl_div": catalog.kl_div,
    "nn.functional.layer_norm": catalog.layer_norm,
    "nn.functional.linear": catalog.linear,
    "nn.functional.normalize": catalog.normalize,
    "nn.functional.rms_norm": catalog.rms_norm,
    "nn.functional.silu": catalog.silu,
    "nn.functional.smooth_l1_loss": catalog.smooth_l1_loss,
}
INFOS = [info for info in op_db if info.name in OURS and info.variant_test_name != "complex"]
# What torch takes and we do not: arguments that are no matter of the gradient, and reductions by their old names.
FOREIGN = ("size_average", "reduce", "max_norm", "norm_type", "sparse", "inplace")


def foreign(sample):
    return [name for name in FOREIGN if sample.kwargs.get(name) not in (None, False)]


def is_random(info, sample):
    """Whether elements are dropped: what torch drops and what we do is not the same."""
    dropout_p = sample.kwargs.get("p", 0.5) if info.name == "nn.functional.dropout" else 0
    return sample.kwargs.get("training", True) and 0 < dropout_p < 1


def split(sample):
    """The arguments with gradients, and the call with others in their place."""
    slots = [sample.input, *sample.args]
    positions = [at for at, value in enumerate(slots) if isinstance(value, Tensor) and value.requires_grad]
    names = [name for name, value in sample.kwargs.items() if isinstance(value, Tensor) and value.requires_grad]
    tensors = (*(slots[at] for at in positions), *(sample.kwargs[name] for name in names))
    kwargs = {name: value for name, value in sample.kwargs.items() if name not in FOREIGN}

    def call(function):
        def of(*given):
            args, options = list(slots), dict(kwargs)
            for at, value in zip(positions, given, strict=False):
                args[at] = value
            options.update(zip(names, given[len(positions) :], strict=True))
            return function(*args, **options)

        return of

    return tensors, call


def samples(info, dtype):
    torch.manual_seed(0)
    found = list(info.sample_inputs("cpu", dtype, requires_grad=True))
    return [sample for sample in found if not foreign(sample) and not is_random(info, sample)]


@pytest.mark.parametrize("info", INFOS, ids=lambda info: f"{info.name} {info.variant_test_name}".strip())
def test_value_and_derivatives_are_those_of_torch_at_its_own_inputs(info):
    torch.manual_seed(0)
    compared = 0
    for sample in samples(info, torch.float64):
        tensors, call = split(sample)
        if not tensors or not call(info.op)(*tensors).requires_grad:
            continue
        assert_agrees(call(OURS[info.name]), call(info.op), tensors, exact=False, rtol=1e-7, atol=1e-8)
        compared += 1
    assert compared


@pytest.mark.parametrize("info", INFOS, ids=lambda info: f"{info.name} {info.variant_test_name}".strip())
def test_the_value_in_bfloat16_has_the_dtype_and_shape_of_torch(info):
    if torch.bfloat16 not in info.dtypes:
        pytest.skip(f"torch's {info.name} takes no bfloat16")
    for sample in samples(info, torch.bfloat16):
        tensors, call = split(sample)
        ours, theirs = call(OURS[info.name])(*tensors), call(info.op)(*tensors)
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
