"""The two `ctx` objects that a classic Function sees: one in its forward, one in its backward and jvp."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor


class ForwardContext:
    """Records what a classic forward or setup_context does to `ctx`: as `torch.autograd.function.FunctionCtx`."""

    def __init__(self, needs_input_grad: tuple[bool, ...]) -> None:
        set_own = object.__setattr__
        set_own(self, "_attributes", {"needs_input_grad": needs_input_grad})
        set_own(self, "_tensors", ())
        set_own(self, "_forward_tensors", ())
        set_own(self, "_dirty", ())
        set_own(self, "_non_differentiable", ())
        set_own(self, "_materialize", True)

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        object.__setattr__(self, "_tensors", tensors)

    def save_for_forward(self, *tensors: Tensor | None) -> None:
        object.__setattr__(self, "_forward_tensors", tensors)

    def mark_dirty(self, *tensors: Tensor) -> None:
        object.__setattr__(self, "_dirty", tensors)

    def mark_non_differentiable(self, *tensors: Tensor) -> None:
        object.__setattr__(self, "_non_differentiable", tensors)

    def set_materialize_grads(self, value: bool) -> None:
        object.__setattr__(self, "_materialize", value)

    def __setattr__(self, name: str, value: Any) -> None:
        self._attributes[name] = value

    def __getattr__(self, name: str) -> Any:
        try:
            return object.__getattribute__(self, "_attributes")[name]
        except KeyError:
            raise AttributeError(f"ctx has no attribute `{name}`") from None


class BackwardContext:
    """What a classic backward or jvp finds on `ctx`. Made anew for each call, so one call cannot disturb the next."""

    def __init__(
        self,
        saved_tensors: Callable[[], Sequence[Tensor | None]],
        attributes: Mapping[str, Any],
        needs_input_grad: tuple[bool, ...],
    ) -> None:
        self.__dict__.update(attributes)
        self.needs_input_grad = needs_input_grad
        self._saved_tensors = saved_tensors

    @property
    def saved_tensors(self) -> tuple[Tensor | None, ...]:
        return tuple(self._saved_tensors())

    def set_materialize_grads(self, value: bool) -> None:
        """Of no effect here, as in torch: the forward decides."""
