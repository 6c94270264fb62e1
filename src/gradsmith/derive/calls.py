"""What a call of torch means: the name of the operation, and its arguments by parameter name."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from gradsmith.derive.errors import Unsupported
from gradsmith.derive.rewrites import REWRITES
from gradsmith.derive.rules import RULES, Rule

_ALIASES = {
    "mm": "matmul",
    "bmm": "matmul",
    "mv": "matmul",
    "dot": "matmul",
    "inner_product": "matmul",
    "multiply": "mul",
    "divide": "div",
    "true_divide": "div",
    "truediv": "div",
    "subtract": "sub",
    "negative": "neg",
    "absolute": "abs",
    "clip": "clamp",
    "concat": "cat",
    "concatenate": "cat",
    "logical_invert": "logical_not",
    "invert": "bitwise_not",
    "and": "bitwise_and",
    "or": "bitwise_or",
    "xor": "bitwise_xor",
    "floordiv": "floor_divide",
    "mod": "remainder",
    "fmod": "",  # another rounding than remainder: no rule
    "log_sigmoid": "logsigmoid",
    "expit": "sigmoid",
    "swapdims": "swapaxes",
    "moveaxis": "movedim",
    "arctan": "atan",
    "vector_norm": "linalg_vector_norm",
    "split_with_sizes": "split",
}
_SWAPPED = {"rsub": "sub", "rdiv": "div", "rtruediv": "div", "rpow": "pow", "radd": "add", "rmul": "mul"}
_CONVERSIONS = ("__bool__", "__float__", "__int__", "__index__", "__array__", "__contains__")
_NO_EFFECT = {"out", "_stacklevel", "inplace", "size_average", "reduce", "layout", "requires_grad", "pin_memory"}
_PARAMETERS = {"axis": "dim", "keepdims": "keepdim", "self": "input", "split_size_or_sections": "split_size"}


def name_of(function: Any) -> str:
    """The name of the operation that a torch function is: "mul" of `torch.mul`, `Tensor.mul` and `Tensor.__mul__`."""
    name: str = function.__name__
    if name == "__get__":
        name = function.__self__.__name__
    if name.startswith("__") and name.endswith("__") and name not in _CONVERSIONS:
        name = name.strip("_")
    name = name.removeprefix("special_")
    return _ALIASES.get(name, name)


def written(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
    """The same call in the form that the rules know."""
    if name in _SWAPPED:
        name, args = _SWAPPED[name], (args[1], args[0], *args[2:])
    kwargs = {_PARAMETERS.get(key, key): value for key, value in kwargs.items() if not _without_effect(key, value)}
    if name == "to" and kwargs:
        args, kwargs = (*args, *_targets(kwargs)), {}
    if name == "pow" and "other" in kwargs:
        kwargs["exponent"] = kwargs.pop("other")
    if name == "div" and kwargs.pop("rounding_mode", None) is not None:
        raise Unsupported("with a rounding mode")
    return name, args, kwargs


def rewrite_of(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The function that writes this call out in simpler operations, or None."""
    rewrite = REWRITES.get(name)
    if rewrite is None:
        return None
    if name in ("add", "sub"):
        return rewrite if kwargs.get("alpha", 1) != 1 else None
    if name == "var":
        plain = set(kwargs) <= {"dim", "correction", "keepdim", "input"} and len(args) <= 2
        return None if plain and "correction" in kwargs else rewrite
    if name in ("max", "min"):
        along = "dim" in kwargs or (len(args) > 1 and not isinstance(args[1], Tensor))
        return None if along else rewrite
    return rewrite


def bind(rule: Rule, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a call by parameter name, with defaults; sizes given one by one or together are a tuple."""
    kwargs = {key: value for key, value in kwargs.items() if key != "alpha"}
    variadic = rule.variadic
    if variadic in kwargs:
        value = kwargs.pop(variadic)
        args = (*args, value)
    try:
        bound = rule.signature.bind(*args, **kwargs)
    except TypeError as error:
        raise Unsupported(f"called like this: {error}") from None
    bound.apply_defaults()
    found = dict(bound.arguments)
    if variadic is not None and len(found[variadic]) == 1 and isinstance(found[variadic][0], (tuple, list)):
        found[variadic] = tuple(found[variadic][0])
    return found


def rule_of(name: str) -> Rule | None:
    return RULES.get(name)


def _without_effect(key: str, value: Any) -> bool:
    if key not in _NO_EFFECT:
        return False
    if not any(value is harmless for harmless in (None, False, 3)):
        raise Unsupported(f"with {key}=")
    return True


def _targets(kwargs: dict[str, Any]) -> list[Any]:
    if set(kwargs) - {"dtype", "device", "non_blocking", "copy", "other"}:
        raise Unsupported(f"with {', '.join(kwargs)}")
    return [kwargs[key] for key in ("other", "device", "dtype") if key in kwargs]
