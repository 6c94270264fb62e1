"""One call with its backward, as every measurement makes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from gradsmith.define import tree
from gradsmith.define.errors import GradsmithError


class ProfileError(GradsmithError):
    """What was given cannot be measured."""


class Work:
    """A function with arguments for it, the tensors to differentiate with respect to, and an upstream gradient.

    Gradients are taken for the arguments that require one and, for a module, for its parameters; where there is none
    of either, only the forward is run.
    """

    def __init__(
        self, name: str, function: Callable[..., Any], inputs: Sequence[Any], kwargs: Mapping[str, Any] | None = None
    ) -> None:
        self.name = name
        self.function = function
        self.args = tuple(inputs)
        self.kwargs = dict(kwargs or {})
        self.arguments = list(_tensors((self.args, self.kwargs)))
        self.parameters = list(_parameters(function))
        self.wanted = [t for t in (*self.arguments, *self.parameters) if t.requires_grad]
        outputs = self.forward()
        if not outputs:
            raise ProfileError(f"profile: {name} returns no tensor")
        self.upstream = [_upstream(t) for t in outputs]
        if self.wanted and not self.upstream_of(outputs):
            raise ProfileError(
                f"profile: no output of {name} has a gradient, though {len(self.wanted)} of its inputs require one; "
                f"give inputs without requires_grad to measure the forward alone"
            )

    @property
    def device(self) -> torch.device:
        tensors = (*self.arguments, *self.parameters)
        return tensors[0].device if tensors else torch.device("cpu")

    def forward(self) -> list[Tensor]:
        """Run it; the tensors that it returns."""
        return list(_tensors(self.function(*self.args, **self.kwargs)))

    def backward(self, outputs: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
        """The gradients of what `forward` returned, for `wanted`."""
        chosen = self.upstream_of(outputs)
        return torch.autograd.grad(list(chosen), self.wanted, list(chosen.values()), allow_unused=True)

    def upstream_of(self, outputs: Sequence[Tensor]) -> dict[Tensor, Tensor]:
        """The upstream gradient of each output that has a gradient."""
        return {o: u for o, u in zip(outputs, self.upstream, strict=True) if o.requires_grad}

    def run(self) -> tuple[list[Tensor], tuple[Tensor | None, ...]]:
        """Forward and backward: outputs, and gradients (none where nothing requires one)."""
        outputs = self.forward()
        return outputs, self.backward(outputs) if self.wanted else ()

    def synchronize(self) -> None:
        """Wait for an accelerator; the CPU is always done."""
        if self.device.type not in ("cpu", "meta"):
            torch.accelerator.synchronize(self.device)


def name_of(function: Any) -> str:
    """What to call a function: the name of an op or of a Python function, else the class."""
    for attribute in ("name", "__name__"):
        name = getattr(function, attribute, None)
        if isinstance(name, str) and name:
            return name
    return type(function).__name__


def describe(work: Work) -> str:
    """The arguments in a line: `float32[4096, 1024]*, int64[4096]`, a star for those that require a gradient."""
    leaves: list[Any] = []
    tree.flatten((work.args, work.kwargs), leaves)
    return ", ".join(_describe(leaf) for leaf in leaves)


def _describe(leaf: Any) -> str:
    if not isinstance(leaf, Tensor):
        return repr(leaf)
    shape = ", ".join(map(str, leaf.shape))
    return f"{str(leaf.dtype).removeprefix('torch.')}[{shape}]{'*' if leaf.requires_grad else ''}"


def _tensors(value: Any) -> Iterator[Tensor]:
    leaves: list[Any] = []
    tree.flatten(value, leaves)
    return (leaf for leaf in leaves if isinstance(leaf, Tensor))


def _parameters(function: Any) -> Iterator[Tensor]:
    owner = getattr(function, "__self__", function)  # a method of a module stands for the module
    return owner.parameters() if isinstance(owner, torch.nn.Module) else iter(())


def _upstream(output: Tensor) -> Tensor:
    """The same numbers in every run; one for a scalar, as `.backward()` takes it."""
    if output.dim() == 0 or not (output.is_floating_point() or output.is_complex()):
        return torch.ones_like(output)
    generator = torch.Generator(output.device).manual_seed(0)
    return torch.randn(output.shape, generator=generator, dtype=output.dtype, device=output.device)
