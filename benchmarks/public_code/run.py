"""Check the custom Functions of public packages, and print what is found as a table.

    python benchmarks/public_code/run.py              # every package that is installed
    python benchmarks/public_code/run.py entmax ot    # these

Each `use_PACKAGE.py` beside this file calls a package as its documentation does. `gradsmith check` runs it,
records each Function that it calls and checks it. Install what is to be checked first, each package with
`pip install PACKAGE`; a package that is not installed is left out.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
COMMAND = "from gradsmith.cli import main; main()"
SEVERITIES = ("error", "warning", "note")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("packages", nargs="*", help="import names; all that are installed if none is given")
    parser.add_argument("--jobs", type=int, default=2, help="Functions checked at a time")
    parser.add_argument("--keep", type=Path, help="write each package's report there, as JSON")
    given = parser.parse_args()
    known = sorted(file.stem.removeprefix("use_") for file in HERE.glob("use_*.py"))
    chosen = given.packages or [name for name in known if importlib.util.find_spec(name)]
    print("| package | version | Functions | errors | warnings | notes | seconds |")
    print("|---|---|---|---|---|---|---|")
    for name in chosen:
        report = check(name, given.jobs)
        if given.keep is not None:
            given.keep.mkdir(parents=True, exist_ok=True)
            (given.keep / f"{name}.json").write_text(json.dumps(report))
        print(row(name, report), flush=True)


def check(name: str, jobs: int) -> dict[str, Any]:
    """The report on what `use_NAME.py` calls."""
    options = ["--format", "json", "--seed", "0", "--jobs", str(jobs)]
    ran = subprocess.run(
        [sys.executable, "-c", COMMAND, "check", str(HERE / f"use_{name}.py"), *options],
        capture_output=True,
        text=True,
    )
    try:
        report: dict[str, Any] = json.loads(ran.stdout[ran.stdout.index("{\n") :])
    except ValueError:
        raise SystemExit(f"{name}: no report\n{ran.stdout}\n{ran.stderr}") from None
    for problem in report["problems"]:
        print(f"{name}: {problem}", file=sys.stderr)
    return report


def row(name: str, report: dict[str, Any]) -> str:
    distribution = importlib.metadata.packages_distributions()[name][0]
    version = importlib.metadata.version(distribution)
    found = [counts(report, severity) for severity in SEVERITIES]
    seconds = sum(function["seconds"] for function in report["functions"])
    cells = [distribution, version, str(len(report["functions"])), *found, f"{seconds:.0f}"]
    return f"| {' | '.join(cells)} |"


def counts(report: dict[str, Any], severity: str) -> str:
    """How many Functions got which code: "2 stale-save, 1 leak"."""
    findings = [finding for finding in report["findings"] if finding["severity"] == severity]
    codes = Counter(code for code, _ in {(f["code"], f["function"]) for f in findings})
    return ", ".join(f"{count} {code}" for code, count in codes.most_common())


if __name__ == "__main__":
    main()
