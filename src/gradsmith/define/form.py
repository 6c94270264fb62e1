"""An op for arguments of one structure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from gradsmith.define import tree
from gradsmith.define._private import functorch_active
from gradsmith.define.function import Functions
from gradsmith.define.origin import Origin
from gradsmith.define.table import TablePrimitive


class Form:
    """One primitive of an op, its Functions, and how they are called."""

    def __init__(self, primitive: TablePrimitive, origin: Callable[[TablePrimitive], Origin]) -> None:
        self.primitive = primitive
        self.functions = Functions(primitive, origin(primitive))
        self.call = self._quick_call(self.functions)

    @staticmethod
    def _quick_call(functions: Functions) -> Callable[..., Any]:
        """One function for the whole way to `apply`, since each frame on it counts at every call of every op."""
        call, apply, indirect = functions.call, functions.apply, functions.indirect

        def flat_call(*args: Any) -> Any:
            result = call(*args) if indirect or functorch_active() else apply(*args)
            return result if type(result) is Tensor else nested(result)

        return flat_call


def nested(result: Any) -> Any:
    """The author's output from what a primitive returned."""
    if isinstance(result, Tensor):
        return result
    return tree.unflatten(result[0].outputs, iter(result[1:]))
