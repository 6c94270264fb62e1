"""Four custom gradients as one writes them at first. The script runs without complaint; each has a fault.

gradsmith check examples/first_draft.py
"""

import torch
from torch.autograd import Function


class LinearFunction(Function):
    """A layer with an optional bias."""

    @staticmethod
    def forward(ctx, input, weight, bias=None):
        ctx.save_for_backward(input, weight, bias)
        output = input.mm(weight.t())
        if bias is not None:
            output += bias.unsqueeze(0).expand_as(output)
        return output

    @staticmethod
    def backward(ctx, grad_output):
        input, weight, bias = ctx.saved_tensors
        grad_input = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            grad_input = grad_output.mm(weight)
        if ctx.needs_input_grad[1]:
            grad_weight = grad_output.t().mm(input)
        if bias is not None and ctx.needs_input_grad[2]:
            grad_bias = grad_output.sum(0).squeeze(0)  # fails where there is one output feature
        return grad_input, grad_weight, grad_bias


class AffineFunction(Function):
    """The same layer, which nobody has called without a bias yet."""

    @staticmethod
    def forward(ctx, input, weight, bias=None):
        ctx.save_for_backward(input, weight)
        ctx.bias_shape = None if bias is None else bias.shape
        output = input.mm(weight.t())
        return output if bias is None else output + bias

    @staticmethod
    def backward(ctx, grad_output):
        input, weight = ctx.saved_tensors
        return grad_output.mm(weight), grad_output.t().mm(input), grad_output.sum(0).reshape(ctx.bias_shape)


class CrossEntropyLoss(Function):
    """The loss with its gradient by hand: softmax minus one-hot, over N."""

    @staticmethod
    def forward(ctx, logits, targets):
        probabilities = logits.softmax(1)
        ctx.save_for_backward(probabilities, targets)  # an intermediate: a constant, as autograd sees it
        return -probabilities[torch.arange(len(targets)), targets].log().mean()

    @staticmethod
    def backward(ctx, grad_output):
        probabilities, targets = ctx.saved_tensors
        gradient = probabilities.clone()
        gradient[torch.arange(len(targets)), targets] -= 1
        return grad_output * gradient / len(targets), None


class MeanSquare(Function):
    """A loss is the last thing that a program computes, so its upstream gradient is always 1. Until it is not."""

    @staticmethod
    def forward(ctx, prediction, target):
        ctx.save_for_backward(prediction, target)
        return (prediction - target).square().mean()

    @staticmethod
    def backward(ctx, grad_output):
        prediction, target = ctx.saved_tensors
        return 2 * (prediction - target) / prediction.numel(), None


def main():
    torch.manual_seed(0)
    input = torch.randn(8, 4, requires_grad=True)
    weight, bias = torch.randn(3, 4, requires_grad=True), torch.randn(3, requires_grad=True)
    targets = torch.randint(3, (8,))

    logits = LinearFunction.apply(input, weight, bias)
    loss = CrossEntropyLoss.apply(logits, targets)
    loss.backward()
    print(f"classification loss {loss.item():.4f}")

    prediction = AffineFunction.apply(input, weight, bias)
    loss = MeanSquare.apply(prediction, torch.zeros(8, 3))
    loss.backward()
    print(f"regression loss     {loss.item():.4f}")


if __name__ == "__main__":
    main()
