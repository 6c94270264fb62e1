"""The systems of a tutorial on torch.autograd.Function, each twice: as an op, one formula per argument, and as a class.

python examples/tutorial.py
gradsmith check examples/tutorial.py
"""

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional

import gradsmith as gs

# ---- Exp: saves its output ---------------------------------------------------------------------------------------

exp = gs.op(torch.exp, x=lambda grad, out: grad * out)


class Exp(gs.Function):
    @staticmethod
    def forward(ctx, x):
        out = x.exp()
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx, grad_output):
        (out,) = ctx.saved_tensors
        return grad_output * out


# ---- Linear: an optional bias, any leading dimensions ------------------------------------------------------------


@gs.op(
    input=lambda grad, weight: grad @ weight,
    weight=lambda grad, input: grad.reshape(-1, grad.shape[-1]).mT @ input.reshape(-1, input.shape[-1]),
    bias=lambda grad, bias_shape: grad.sum_to_size(bias_shape),
)
def linear(input, weight, bias=None):
    return functional.linear(input, weight, bias)


class LinearFunction(gs.Function):
    @staticmethod
    def forward(ctx, input, weight, bias=None):
        ctx.save_for_backward(input if ctx.needs_input_grad[1] else None, weight if ctx.needs_input_grad[0] else None)
        return functional.linear(input, weight, bias)

    @staticmethod
    def backward(ctx, grad_output):
        input, weight = ctx.saved_tensors
        rows = grad_output.reshape(-1, grad_output.shape[-1])
        return (
            grad_output @ weight if ctx.needs_input_grad[0] else None,
            rows.mT @ input.reshape(-1, input.shape[-1]) if ctx.needs_input_grad[1] else None,
            rows.sum(0) if ctx.needs_input_grad[2] else None,
        )


# ---- Func: an argument that is no tensor, once differentiable ----------------------------------------------------


@gs.op(
    once=True,
    x=lambda grad, y, z: grad * (y + y * z),
    y=lambda grad, x, z: grad * (x + z + x * z),
)
def func(x, y, z):
    w = x * z
    return x * y + y * z + w * y


class Func(gs.Function):
    @staticmethod
    def forward(ctx, x, y, z):
        w = x * z
        ctx.z = z
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, y if ctx.needs_input_grad[0] else None)
        return x * y + y * z + w * y

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output):
        (x, y), z = ctx.saved_tensors, ctx.z
        grad_x = grad_output * (y + y * z) if ctx.needs_input_grad[0] else None
        grad_y = grad_output * (x + z + x * z) if ctx.needs_input_grad[1] else None
        return grad_x, grad_y, None


# ---- CrossEntropyLoss: softmax minus one-hot, over N -------------------------------------------------------------


def softmax_minus_one_hot(logits, targets, lse):
    one_hot = functional.one_hot(targets, logits.shape[1])
    return (logits - lse).exp() - one_hot


@gs.op(logits=lambda grad, logits, targets, lse: grad * softmax_minus_one_hot(logits, targets, lse) / len(targets))
def cross_entropy(logits, targets):
    lse = logits.logsumexp(1, keepdim=True)
    return gs.keep((lse - logits.gather(1, targets[:, None])).mean(), lse=lse)


class CrossEntropyLoss(gs.Function):
    @staticmethod
    def forward(ctx, logits, targets):
        lse = logits.logsumexp(1, keepdim=True)
        ctx.save_for_backward(logits, targets, lse)
        return (lse - logits.gather(1, targets[:, None])).mean()

    @staticmethod
    def backward(ctx, grad_output):
        logits, targets, lse = ctx.saved_tensors
        return grad_output * softmax_minus_one_hot(logits, targets, lse) / len(targets), None


# ---- Functions without a derivative ------------------------------------------------------------------------------

sign = gs.straight_through(torch.sign, mask="hardtanh")
round = gs.straight_through(torch.round)
spike = gs.surrogate(lambda v: (v >= 0).to(v.dtype), lambda v: 1 / (1 + 10 * v.abs()) ** 2)


class Sign(gs.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sign()

    @staticmethod
    def backward(ctx, grad_output):
        (x,) = ctx.saved_tensors
        return grad_output * (x.abs() <= 1)


class Round(gs.Function):
    @staticmethod
    def forward(ctx, x):
        return x.round()

    @staticmethod
    def backward(ctx, grad_output):
        return grad_output


class Spike(gs.Function):
    @staticmethod
    def forward(ctx, v):
        ctx.save_for_backward(v)
        return (v >= 0).to(v.dtype)

    @staticmethod
    def backward(ctx, grad_output):
        (v,) = ctx.saved_tensors
        return grad_output / (1 + 10 * v.abs()) ** 2


def show(name, value, grads=()):
    print(f"{name:<18} {[round_off(v) for v in value.detach().flatten().tolist()]}")
    for grad in grads:
        print(f"{'   gradient':<18} {None if grad is None else [round_off(v) for v in grad.flatten().tolist()]}")


def round_off(value):
    return float(f"{value:.5g}")


def show_style(exp, func, cross_entropy):
    x = torch.tensor([3.0, 4.0], dtype=torch.float64, requires_grad=True)
    out = exp(exp(x))
    show("Exp twice", out, torch.autograd.grad(out.sum(), x))

    x, y = torch.tensor(1.0, requires_grad=True), torch.tensor(2.0, requires_grad=True)
    out = func(x, y, 4)
    out.backward()
    show("Func", out, (x.grad, y.grad, None))
    try:
        torch.func.grad(torch.func.grad(lambda x: func(x, y.detach(), 4)))(x.detach())
    except gs.SecondDerivativeError as error:
        print(f"   refused: {str(error)[:60]}…")

    logits = torch.tensor([[0.2, 0.3, 0.9]] * 2, requires_grad=True)
    out = cross_entropy(logits, torch.tensor([0, 0]))
    show("CrossEntropyLoss", out, torch.autograd.grad(out, logits))


def main():
    print("---- op style")
    show_style(exp, func, cross_entropy)
    print("---- class style")
    show_style(Exp.apply, Func.apply, CrossEntropyLoss.apply)

    torch.manual_seed(0)
    print("---- both")
    layer = gs.nn.Linear(4, 1)
    input = torch.randn(2, 3, 4, requires_grad=True)
    for call in (linear, LinearFunction.apply):
        out = call(input, layer.weight, layer.bias)
        show("Linear", out.sum(), torch.autograd.grad(out.sum(), layer.bias))
    show("gs.nn.Linear", gs.nn.Linear(4, 2, bias=False)(input).sum())

    v = torch.tensor([-1.5, -0.1, 0.0, 0.6], requires_grad=True)
    for op, function in ((sign, Sign), (round, Round), (spike, Spike)):
        for f in (op, function.apply):
            show(function.__name__, f(v), torch.autograd.grad(f(v).sum(), v))


if __name__ == "__main__":
    main()
