"""Numbers and sets of elements in words."""

from __future__ import annotations

from typing import Any

import torch


def number(value: complex | float) -> str:
    """A number as a person writes it: 2, 0.25, 1/3, 1.0005."""
    if isinstance(value, complex):
        return f"({value:.4g})"
    inverse = 1 / value if value else 0.0
    if 1.5 < abs(inverse) < 1e6 and abs(inverse - round(inverse)) < 1e-6 * abs(inverse):
        return f"1/{round(inverse)}" if inverse > 0 else f"-1/{-round(inverse)}"
    return f"{value:.6g}"


def ratio_text(ratio: complex | float) -> str:
    """ "2x", "1/4x", "-1x"."""
    return f"{number(ratio)}x"


def elements(mask: torch.Tensor | None) -> str:
    """How many of how many: "all 12 elements", "3 of 12 elements", "its only element"."""
    if mask is None:
        return "some elements"
    marked, total = int(mask.sum()), mask.numel()
    if total == 1:
        return "its only element"
    return f"all {total} elements" if marked == total else f"{marked} of {total} elements"


def where_wrong(wrong: torch.Tensor, value: torch.Tensor, name: str) -> str:
    """Which elements are wrong: by the sign of the input, by row or column, or one by one."""
    count = elements(wrong)
    if value.shape == wrong.shape and not value.is_complex() and value.numel() > 1:
        for text, condition in (
            (f"`{name}` < 0", value < 0), (f"`{name}` > 0", value > 0), (f"`{name}` == 0", value == 0),
            (f"`{name}` != 0", value != 0),
        ):  # fmt: skip
            if bool((condition == wrong).all()) and bool(condition.any()):
                return f"the {count} where {text}"
        inside, outside = value[wrong], value[~wrong]
        if inside.numel() > 1 and outside.numel() > 1:
            if float(inside.min()) > float(outside.max()):
                return f"the {count} where `{name}` is largest (from {float(inside.min()):.4g})"
            if float(inside.max()) < float(outside.min()):
                return f"the {count} where `{name}` is smallest (up to {float(inside.max()):.4g})"
    for dim in range(wrong.dim()):
        if wrong.dim() < 2:
            break
        along = wrong.movedim(dim, 0).reshape(wrong.shape[dim], -1)
        if bool((along.all(1) == along.any(1)).all()):
            places = along.all(1).nonzero().reshape(-1).tolist()
            what = ("row" if dim == 0 else "column") if wrong.dim() == 2 else f"index along dimension {dim}"
            return f"{what} {_listed(places)} ({count})"
    places = [list(map(int, index)) for index in wrong.nonzero().tolist()[:4]]
    more = ", ..." if int(wrong.sum()) > 4 else ""
    return f"{count}: {', '.join(map(str, places))}{more}"


def _listed(places: list[Any]) -> str:
    if len(places) > 2 and places == list(range(places[0], places[-1] + 1)):
        return f"{places[0]} to {places[-1]}"
    return ", ".join(map(str, places[:6])) + (", ..." if len(places) > 6 else "")
