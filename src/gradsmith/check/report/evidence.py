"""A finding's evidence as a person reads it: the worst element as a row, the rest as pairs.

Evidence keys are names in a program (`oracle_error`); JSON keeps them, every other format reads them here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gradsmith.check.finding import Finding

MAP = "error_map"  # see check.error_map: drawn in HTML, kept in JSON, left out of text
_ROW = ("element", "got", "expected", "ratio")
_COUNTS = ("wrong_elements", "elements_looked_at", "elements")
_ORACLES = {
    "reference": "autodiff of the reference",
    "replay": "autodiff of the forward itself",
    "differences": "differences of the forward",
}


def worst_element(finding: Finding) -> list[tuple[str, str]]:
    """Where the gradient is furthest off: the element, what backward gave, the derivative, their ratio."""
    if "element" not in finding.evidence:
        return []
    return [(name, plain(finding.evidence[name])) for name in _ROW if finding.evidence.get(name) is not None]


def pairs(finding: Finding) -> list[tuple[str, str]]:
    """Everything else: name and value of each piece of evidence."""
    facts = dict(finding.evidence)
    in_row = [name for name, _ in worst_element(finding)]
    found: list[tuple[str, str]] = []
    if counts := _counts(facts):
        found.append(("wrong", counts))
    if "oracle" in facts:
        found.append(("derivative from", _oracle(facts)))
    left_out = {MAP, "oracle", "oracle_error", *_COUNTS, *in_row}
    found += [(_words(name), plain(facts[name])) for name in facts if name not in left_out and facts[name] is not None]
    return found


def plain(value: Any) -> str:
    """A value as text: floats in six significant digits, lists in brackets, mappings as "name value"."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {plain(item)}" for name, item in value.items())
    if isinstance(value, list | tuple):
        opening, closing = ("(", ")") if isinstance(value, tuple) else ("[", "]")
        return opening + ", ".join(plain(item) for item in value) + closing
    return str(value)


def _counts(facts: dict[str, Any]) -> str:
    if not all(name in facts for name in _COUNTS):
        return ""
    wrong, looked_at, total = (facts[name] for name in _COUNTS)
    of_all = f"{wrong:,} of {total:,} elements"
    return of_all if looked_at == total else f"{wrong:,} of the {looked_at:,} elements looked at, of {total:,}"


def _oracle(facts: dict[str, Any]) -> str:
    name = str(facts["oracle"])
    error = facts.get("oracle_error")
    return _ORACLES.get(name, name) + (f", known to {error:.1g}" if isinstance(error, float) and error else "")


def _words(name: str) -> str:
    return name.replace("_", " ")
