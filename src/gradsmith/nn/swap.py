"""`swap`: the layers and losses of an existing model, computed by gradsmith's ops."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch
from torch.nn import Module

from gradsmith.define.errors import GradsmithError
from gradsmith.nn.activation import GELU, SiLU
from gradsmith.nn.dropout import Dropout
from gradsmith.nn.embedding import Embedding
from gradsmith.nn.linear import Bilinear, Linear
from gradsmith.nn.loss import BCEWithLogitsLoss, CrossEntropyLoss, HuberLoss, KLDivLoss, SmoothL1Loss
from gradsmith.nn.norm import GroupNorm, LayerNorm, RMSNorm
from gradsmith.nn.similarity import CosineSimilarity

# Each is a subclass of the one that it replaces, and adds no state: a module changes over by changing its class.
REPLACEMENTS: Mapping[type[Module], type[Module]] = {
    torch.nn.Linear: Linear,
    torch.nn.Bilinear: Bilinear,
    torch.nn.Embedding: Embedding,
    torch.nn.LayerNorm: LayerNorm,
    torch.nn.RMSNorm: RMSNorm,
    torch.nn.GroupNorm: GroupNorm,
    torch.nn.GELU: GELU,
    torch.nn.SiLU: SiLU,
    torch.nn.Dropout: Dropout,
    torch.nn.CrossEntropyLoss: CrossEntropyLoss,
    torch.nn.HuberLoss: HuberLoss,
    torch.nn.SmoothL1Loss: SmoothL1Loss,
    torch.nn.BCEWithLogitsLoss: BCEWithLogitsLoss,
    torch.nn.KLDivLoss: KLDivLoss,
    torch.nn.CosineSimilarity: CosineSimilarity,
}


class SwapError(GradsmithError):
    """A replacement does not fit, or a swap can no longer be undone."""


@dataclass(frozen=True)
class Swapped:
    """One module that changed over: its path in the model ("" for the model itself), and its class before and now."""

    path: str
    before: type[Module]
    now: type[Module]


@dataclass(frozen=True)
class Kept:
    """One module that resembles a replaceable one and was left alone, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class SavedBytes:
    """What one forward saves for its backward, with the modules as they were and as they are; shared storages once.

    `by_class` has the bytes before and after for each class, by its former name; a storage counts for the module that
    saves it first.
    """

    before: int
    after: int
    by_class: Mapping[str, tuple[int, int]]

    def __str__(self) -> str:
        from gradsmith.profile.units import size

        rows = {**self.by_class, "all": (self.before, self.after)}
        width = max(map(len, rows))
        return "\n".join(
            f"{name:<{width}}  {size(before):>9}  ->  {size(after):>9}" for name, (before, after) in rows.items()
        )


class Swap:
    """What `swap` did to a model: print it, `undo` it, or use it as a context manager.

    `swapped` lists the modules that changed over, `kept` those that resemble a replaceable one and did not.
    """

    def __init__(self, model: Module, swapped: tuple[Swapped, ...], kept: tuple[Kept, ...]) -> None:
        self.model = model
        self.swapped = swapped
        self.kept = kept
        self._modules = dict(model.named_modules())
        self._become("now")

    def undo(self) -> None:
        """Give every module its former class back. Parameters, buffers and hooks stay as they are now.

        Raises:
            SwapError: the class of a module was changed again after the swap; then nothing is undone.
        """
        for entry in self.swapped:
            found = type(self._modules[entry.path])
            if found is not entry.now:
                raise SwapError(
                    f"swap: cannot undo {entry.path or 'the model'}: it became gradsmith's {entry.now.__name__} and is "
                    f"a {found.__name__} now; first undo what changed it after the swap"
                )
        self._become("before")
        self.swapped = ()

    def saved(self, call: Callable[[], Any]) -> SavedBytes:
        """Count what `call` saves for its backward, with the modules as they were and as they are.

        `call` runs the forward once, as `lambda: loss(model(x), y)`; it is called twice. Random number generators and
        buffers are left as they were.
        """
        try:
            self._become("before")
            before = self._saved_by_class(call)
        finally:
            self._become("now")
        after = self._saved_by_class(call)
        by_class = {name: (before[name], after[name]) for name in sorted({*before, *after})}
        return SavedBytes(before.total(), after.total(), by_class)

    def _saved_by_class(self, call: Callable[[], Any]) -> Counter[str]:
        from gradsmith.profile.modules import OUTSIDE, saved_by_module

        names = {path: type(module).__name__ for path, module in self._modules.items()}
        names.update({entry.path: entry.before.__name__ for entry in self.swapped})
        counts: Counter[str] = Counter()
        for path, bytes_ in saved_by_module(self.model, call).items():
            counts[names.get(path, OUTSIDE)] += bytes_
        return counts

    def _become(self, which: str) -> None:
        for entry in self.swapped:
            self._modules[entry.path].__class__ = getattr(entry, which)

    def __enter__(self) -> Swap:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.undo()

    def __repr__(self) -> str:
        lines = [f"swapped {len(self.swapped)} of {len(self._modules)} modules"]
        counts = Counter(entry.before.__name__ for entry in self.swapped)
        lines += [f"  {count:>4} {name}" for name, count in sorted(counts.items())]
        for reason, number in Counter(entry.reason for entry in self.kept).items():
            path = next(entry.path for entry in self.kept if entry.reason == reason) or "the model"
            more = f" and {number - 1} more" if number > 1 else ""
            lines.append(f"  left alone: {path}{more}: {reason}")
        return "\n".join(lines)


def swap(model: Module, also: Mapping[type[Module], type[Module]] | None = None) -> Swap:
    """Make the layers and losses of `model` use gradsmith's ops, in place.

    Every module whose class is exactly one of `REPLACEMENTS` becomes gradsmith's class of that name. The objects stay
    the same: parameters, optimizers, hooks, the state dict and references from elsewhere are not touched. A module of
    a subclass, or with a forward of its own on the instance, may compute something else; it is left alone and
    reported. What a model computes outside of modules, by functions of torch, does not change.

    Args:
        model: any module; a loss or a single layer, too.
        also: further classes to replace, each with a subclass of it that adds no state.

    Returns:
        A `Swap` that says what was swapped; `undo()` it, or use it as a context manager. Before pickling a whole model
        for a place without gradsmith, undo it; state dicts are the same either way.

    Raises:
        SwapError: a class in `also` is no subclass of the one that it replaces.

    >>> model = torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.ReLU())
    >>> swap(model)
    swapped 1 of 3 modules
         1 Linear
    """
    replacements = {**REPLACEMENTS, **(also or {})}
    for old, new in replacements.items():
        if not issubclass(new, old):
            raise SwapError(
                f"swap: {new.__qualname__} cannot replace {old.__qualname__}: it must be a subclass of it, so that a "
                f"module has all that its forward needs"
            )
    ours = set(replacements.values())
    swapped, kept = [], []
    for path, module in model.named_modules():
        kind = type(module)
        if "forward" in vars(module) and kind in replacements:
            kept.append(Kept(path, f"a {kind.__name__} with a forward of its own on the instance"))
        elif kind in replacements:
            swapped.append(Swapped(path, kind, replacements[kind]))
        elif kind not in ours and (base := next((old for old in replacements if isinstance(module, old)), None)):
            kept.append(Kept(path, f"{kind.__name__} is a subclass of {base.__name__} and may compute something else"))
    return Swap(model, tuple(swapped), tuple(kept))
