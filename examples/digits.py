"""Handwritten digits, classified with gradsmith's layers and loss, and with torch's, from the same seed.

    python examples/digits.py
    gradsmith check examples/digits.py

A second pair has binary activations: the sign function, trained through a straight-through estimator. All four print
the accuracy on digits they have not seen. The data ship with scikit-learn.
"""

import torch
from rich.console import Console
from rich.progress import track
from sklearn.datasets import load_digits
from torch import nn

import gradsmith as gs

EPOCHS, BATCH = 30, 64
console = Console(stderr=True)
sign = gs.surrogates.sign_ste


class DetachedSign(nn.Module):
    """The estimator as one writes it with torch alone."""

    def forward(self, x):
        clipped = x.clamp(-1, 1)
        return clipped + (torch.where(x >= 0, 1.0, -1.0) - clipped).detach()


class Sign(nn.Module):
    def forward(self, x):
        return sign(x)


def data():
    digits = load_digits()
    inputs = torch.tensor(digits.data, dtype=torch.float32) / 16
    targets = torch.tensor(digits.target)
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(0))
    train, test = order[:1400], order[1400:]
    return inputs[train], targets[train], inputs[test], targets[test]


def classifier(library, activation):
    """The same network, with the layers of `torch.nn` or of `gs.nn`."""
    torch.manual_seed(0)
    return nn.Sequential(
        library.Linear(64, 128), activation, library.Linear(128, 64), activation, library.Linear(64, 10)
    )


def train(name, model, loss_function):
    inputs, targets, test_inputs, test_targets = data()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    shuffle = torch.Generator().manual_seed(1)
    for _ in track(range(EPOCHS), name, console=console, disable=not console.is_terminal, transient=True):
        for batch in torch.randperm(len(inputs), generator=shuffle).split(BATCH):
            optimizer.zero_grad()
            loss_function(model(inputs[batch]), targets[batch]).backward()
            optimizer.step()
    with torch.no_grad():
        accuracy = (model(test_inputs).argmax(1) == test_targets).float().mean().item()
    print(f"{name:<32} accuracy {accuracy:.4f}")
    return accuracy


def main():
    torch.set_num_threads(1)
    train("torch, ReLU", classifier(nn, nn.ReLU()), nn.CrossEntropyLoss())
    train("gradsmith, ReLU", classifier(gs.nn, nn.ReLU()), gs.nn.CrossEntropyLoss())
    train("torch, sign by the detach trick", classifier(nn, DetachedSign()), nn.CrossEntropyLoss())
    train("gradsmith, sign straight through", classifier(gs.nn, Sign()), gs.nn.CrossEntropyLoss())


if __name__ == "__main__":
    main()
