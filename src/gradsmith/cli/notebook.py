"""A Jupyter notebook as a program: its cells in order, each a file of its own for tracebacks and sources.

The file is `analysis.ipynb[3]` for the third cell with code. Nothing of Jupyter is needed. What starts with % or ! is
for IPython or the shell, and is left out: a check installs nothing and starts no other program.
"""

from __future__ import annotations

import json
import linecache
import re
import types
from dataclasses import dataclass
from pathlib import Path

from gradsmith.cli.problem import Problem, describe

_MAGIC = re.compile(r"^(\s*)(?:[%!]\s*[A-Za-z_.].*|\?{1,2}\w.*|\w[\w.]*\?{1,2})$", re.MULTILINE)
_CELL_MAGIC = re.compile(r"\s*%%(\w+).*\n?")
DEFINED: dict[str, object] = {"display": print}  # what Jupyter defines in a notebook beside Python's builtins
_OF_PYTHON = {"capture", "prun", "time", "timeit"}  # cell magics after which Python follows


@dataclass(frozen=True)
class Cell:
    file: str
    text: str

    def compiled(self) -> types.CodeType:
        return compile(self.text, self.file, "exec")


def cells(path: Path) -> list[Cell]:
    """The cells with code; their text is where tracebacks, `inspect` and the reports look for that of a file.

    Raises:
        Problem: the file is no notebook, or one in another language.
    """
    found = [Cell(f"{path}[{number}]", source) for number, source in enumerate(_sources(path), 1)]
    for cell in found:
        linecache.cache[cell.file] = (len(cell.text), None, cell.text.splitlines(keepends=True), cell.file)
    return found


def _sources(path: Path) -> list[str]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        language = document["metadata"].get("kernelspec", {}).get("language", "python")
        found = [_plain("".join(cell["source"])) for cell in document["cells"] if cell["cell_type"] == "code"]
    except (OSError, ValueError) as error:
        raise Problem(f"{path} cannot be read: {describe(error)}") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise Problem(f"{path} is no notebook of format 4: {describe(error)}") from error
    if language != "python":
        raise Problem(f"{path} is a notebook in {language}, not in Python")
    return found


def _plain(source: str) -> str:
    """The Python in a cell, its lines where they were."""
    magic = _CELL_MAGIC.match(source)
    if magic is not None:
        source = "\n" + source[magic.end() :] if magic[1] in _OF_PYTHON else ""
    try:
        compile(source, "cell", "exec")
    except SyntaxError:  # not before: a line of Python may start with a percent sign, too
        return _MAGIC.sub(r"\1pass", source)
    return source
