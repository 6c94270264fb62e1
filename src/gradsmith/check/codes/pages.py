"""Read the pages beside this file. A page is its own specification:

# gradient-sign                                     the code, which is the file's name too

**error** · the gradient has ... the wrong sign     severity and meaning, on one line

...prose, a block ```python bad and a block ```python good

Both blocks run as they stand. They leave a tuple `inputs` and the function to check: the name `fn`, or else
the last `torch.autograd.Function` that they define.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal, cast

from gradsmith.check.finding import SEVERITIES, Severity

_FRONT = re.compile(r"\A# (?P<code>[a-z-]+)\n\n\*\*(?P<severity>[a-z]+)\*\* · (?P<summary>.+)\n")
_BLOCK = re.compile(r"^```python (?P<kind>bad|good)\n(?P<source>.*?)^```$", re.MULTILINE | re.DOTALL)


class CodeError(LookupError):
    """A name that is no finding code. The message lists the codes that look like it."""


@dataclass(frozen=True)
class Page:
    """What there is to know about one finding code."""

    code: str
    severity: Severity  # the usual one; a finding carries its own
    summary: str  # one line, without Markdown
    text: str  # the whole page, Markdown

    def block(self, kind: Literal["bad", "good"]) -> str:
        """The source of the example that is reported, or of its repair."""
        return next(match["source"] for match in _BLOCK.finditer(self.text) if match["kind"] == kind)


@cache
def pages() -> dict[str, Page]:
    """Every page by its code: errors first, then warnings and notes, each in alphabetical order."""
    here = resources.files(__package__)
    found = [
        _parse(entry.name.removesuffix(".md"), entry.read_text(encoding="utf-8"))
        for entry in here.iterdir()
        if entry.name.endswith(".md")
    ]
    found.sort(key=lambda page: (SEVERITIES.index(page.severity), page.code))
    return {page.code: page for page in found}


def codes() -> tuple[str, ...]:
    """The names of all finding codes."""
    return tuple(pages())


def page(code: str) -> Page:
    """The page of one code.

    Raises:
        CodeError: there is no such code.

    Example:
        >>> page("gradient-sign").severity
        'error'
    """
    try:
        return pages()[code]
    except KeyError:
        raise CodeError(unknown(code)) from None


def near(code: str) -> list[str]:
    """The codes that somebody who wrote `code` may have meant, best first."""
    written = code.lower().replace("_", "-")
    if misspelt := difflib.get_close_matches(written, codes(), n=2, cutoff=0.8):
        return misspelt
    words = {word for word in written.split("-") if len(word) > 2}
    sharing = [name for name in codes() if words & set(name.split("-"))]
    return list(dict.fromkeys([*sharing, *difflib.get_close_matches(written, codes(), n=3)]))[:4]


def unknown(code: str) -> str:
    """The sentence for a code that does not exist."""
    matches = near(code)
    hint = f"did you mean {' or '.join(matches)}?" if matches else "`gradsmith explain` lists all codes"
    return f"unknown code {code!r}: {hint}"


def _parse(name: str, text: str) -> Page:
    front = _FRONT.match(text)
    if front is None or front["code"] != name or front["severity"] not in SEVERITIES:
        raise ValueError(f"{name}.md: the page must begin with '# {name}', a blank line, '**severity** · meaning'")
    summary = re.sub(r"[*`]", "", front["summary"])
    return Page(name, cast(Severity, front["severity"]), summary, text)
