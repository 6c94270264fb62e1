"""Bytes that a call saves for its backward: gradsmith's op, torch's own function, and the class as tutorials write it.

    python benchmarks/saved_bytes.py

Counted through saved-tensor hooks and, for what a class leaves on `ctx`, on its node; each storage once.
"""

import torch
from torch.nn import functional

import gradsmith as gs


class LinearFunction(torch.autograd.Function):
    """As in the tutorial: everything is saved, whatever needs a gradient."""

    @staticmethod
    def forward(ctx, input, weight, bias):
        ctx.save_for_backward(input, weight, bias)
        return input.mm(weight.t()) + bias

    @staticmethod
    def backward(ctx, grad_output):
        input, weight, _ = ctx.saved_tensors
        return grad_output.mm(weight), grad_output.t().mm(input), grad_output.sum(0)


class CrossEntropyLoss(torch.autograd.Function):
    """As in the tutorial: the softmax is saved."""

    @staticmethod
    def forward(ctx, logits, targets):
        probabilities = logits.softmax(1)
        ctx.save_for_backward(probabilities, targets)
        return functional.nll_loss(probabilities.log(), targets)

    @staticmethod
    def backward(ctx, grad_output):
        probabilities, targets = ctx.saved_tensors
        return grad_output * (probabilities - functional.one_hot(targets, probabilities.shape[1])) / len(targets), None


class Softmax(torch.autograd.Function):
    """As one writes it at first: the input is saved and the softmax computed again."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.softmax(-1)

    @staticmethod
    def backward(ctx, grad_output):
        out = ctx.saved_tensors[0].softmax(-1)
        return out * (grad_output - (grad_output * out).sum(-1, keepdim=True))


def layer_norm_forward(x, weight, bias):
    mean = x.mean(-1, keepdim=True)
    rstd = (x.var(-1, correction=0, keepdim=True) + 1e-5).rsqrt()
    return gs.keep((x - mean) * rstd * weight + bias, mean=mean, rstd=rstd)


def layer_norm_for_x(grad, x, weight, mean, rstd):
    normal, scaled = (x - mean) * rstd, grad * weight
    return rstd * (scaled - scaled.mean(-1, keepdim=True) - normal * (scaled * normal).mean(-1, keepdim=True))


layer_norm = gs.op(
    layer_norm_forward,
    x=layer_norm_for_x,
    weight=lambda grad, x, mean, rstd, weight_shape: (grad * (x - mean) * rstd).sum_to_size(weight_shape),
    bias=lambda grad, bias_shape: grad.sum_to_size(bias_shape),
)
softmax = gs.op(lambda x: x.softmax(-1), x=lambda grad, out: out * (grad - (grad * out).sum(-1, keepdim=True)))


class LayerNorm(torch.autograd.Function):
    """As one writes it at first: the normalised input is saved beside what it is computed from."""

    @staticmethod
    def forward(ctx, x, weight, bias):
        mean = x.mean(-1, keepdim=True)
        rstd = (x.var(-1, correction=0, keepdim=True) + 1e-5).rsqrt()
        normal = (x - mean) * rstd
        ctx.save_for_backward(x, weight, bias, mean, rstd, normal)
        return normal * weight + bias

    @staticmethod
    def backward(ctx, grad):
        x, weight, _, mean, rstd, normal = ctx.saved_tensors
        return layer_norm_for_x(grad, x, weight, mean, rstd), (grad * normal).sum(0), grad.sum(0)


def saved_bytes(function, arguments):
    """The bytes of all storages that are saved, each once."""
    storages = {}

    def pack(tensor):
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = function(*arguments)
    assert out.requires_grad
    return sum(storages.values())


def main():
    rows, width, classes = 1024, 512, 1000

    def x(*shape):
        return torch.randn(*shape, requires_grad=True)

    targets = torch.randint(classes, (rows,))
    cases = {
        "linear": (gs.linear, functional.linear, LinearFunction.apply, (x(rows, width), x(width, width), x(width))),
        "layer_norm": (
            layer_norm,
            lambda x, w, b: functional.layer_norm(x, (width,), w, b),
            LayerNorm.apply,
            (x(rows, width), x(width), x(width)),
        ),
        "softmax": (softmax, lambda x: functional.softmax(x, -1), Softmax.apply, (x(rows, width),)),
        "cross_entropy": (
            gs.cross_entropy,
            functional.cross_entropy,
            CrossEntropyLoss.apply,
            (x(rows, classes), targets),
        ),
    }
    print(f"{'':<44} {'gradsmith':>12} {'torch':>12} {'tutorial':>12}")
    for name, (ours, torchs, tutorials, arguments) in cases.items():
        settings = {"everything trainable": arguments}
        if len(arguments) == 3:
            settings["frozen weight and bias"] = (arguments[0], *(a.detach() for a in arguments[1:]))
            settings["frozen input"] = (arguments[0].detach(), *arguments[1:])
            settings["only the bias trainable"] = (arguments[0].detach(), arguments[1].detach(), arguments[2])
        for setting, given in settings.items():
            counts = [saved_bytes(function, given) for function in (ours, torchs, tutorials)]
            print(f"{name + ', ' + setting:<44} {counts[0]:12,} {counts[1]:12,} {counts[2]:12,}")


if __name__ == "__main__":
    main()
