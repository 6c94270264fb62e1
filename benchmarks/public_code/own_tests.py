"""Run the tests of public packages under `pytest --gradsmith`, and print what is found as a table.

    python benchmarks/public_code/own_tests.py CHECKOUTS              # every package of TESTS with a folder there
    python benchmarks/public_code/own_tests.py CHECKOUTS entmax e3nn  # these

`CHECKOUTS/PACKAGE` holds the package's repository, or its tests alone, at the version that is installed. Only the
files that reach custom Functions are run, first without the flag and then with it: the outcomes of the tests have
to be the same.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import re
import resource
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

TESTS = {
    "brevitas": ["tests/brevitas/core", "tests/brevitas/nn/test_linear.py", "tests/brevitas/nn/test_act.py"],
    "e3nn": ["tests/math/soft_unit_step_test.py", "tests/math/soft_one_hot_test.py"],
    "entmax": ["entmax"],
    "gpytorch": ["test/functions", "test/variational/test_natural_variational_distribution.py"],
    "kornia": ["tests/losses/test_focal_loss.py", "tests/geometry/epipolar/test_essential.py"],
    "monai": ["tests/integration/test_vis_gradbased.py", "tests/networks/layers/filtering"],
    "norse": ["norse/torch/functional"],
    "pytorch-revgrad": ["tests"],
    "sinabs": ["tests/test_activations.py", "tests/test_surrogate_gradients.py", "tests/test_layers"],
    "snntorch": ["tests/test_snntorch"],
    "spikingjelly": ["test/activation_based/test_neuron_variants.py"],
    "torchsort": ["tests/test_ops.py"],
}
OURS = "gradsmith"  # the class in junitxml of what `pytest --gradsmith` adds


@dataclass(frozen=True)
class Ran:
    tests: dict[tuple[str, str], str]  # the outcome of each
    errors: dict[str, set[str]]  # the codes of each Function's
    seconds: float
    tail: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkouts", type=Path)
    parser.add_argument("packages", nargs="*", help="all that have a folder there if none is given")
    parser.add_argument("--keep", type=Path, help="write what each run prints there")
    given = parser.parse_args()
    print("| package | version | tests | passed | Functions | errors | CPU seconds without | with |")
    print("|---|---|---|---|---|---|---|---|")
    for name in given.packages or [name for name in TESTS if (given.checkouts / name).is_dir()]:
        plain, checked = (run(given.checkouts / name, TESTS[name], flags) for flags in ([], ["--gradsmith"]))
        if given.keep is not None:
            given.keep.mkdir(parents=True, exist_ok=True)
            (given.keep / f"{name}.txt").write_text(checked.tail)
        print(row(name, plain, checked), flush=True)
        for test in sorted(plain.tests.keys() | checked.tests.keys()):
            outcomes = [ran.tests.get(test, "not run") for ran in (plain, checked)]
            if outcomes[0] != outcomes[1]:
                print(f"{name}: {'.'.join(test)}: {outcomes[0]}, under gradsmith {outcomes[1]}", file=sys.stderr)


def run(checkout: Path, files: list[str], flags: list[str]) -> Ran:
    """The tests in `files`, run in the checkout as its authors would."""
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:randomly", "--continue-on-collection-errors", *flags]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "junit.xml"
        before = cpu_seconds()
        ran = subprocess.run(
            [sys.executable, "-m", "pytest", *files, *options, f"--junitxml={out}"],
            cwd=checkout,
            capture_output=True,
            text=True,
        )
        seconds = cpu_seconds() - before
        if not out.exists():
            raise SystemExit(f"{checkout.name}: no report\n{ran.stdout}\n{ran.stderr}")
        cases = list(ElementTree.parse(out).iter("testcase"))
    ours = [case for case in cases if case.get("classname") == OURS]
    errors = {case.get("name", ""): codes(case) for case in ours}
    tests = {(case.get("classname", ""), case.get("name", "")): outcome(case) for case in cases if case not in ours}
    return Ran(tests, errors, seconds, ran.stdout + ran.stderr)


def cpu_seconds() -> float:
    """What all processes that were waited for have used; a clock would count what runs beside them."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def codes(function: ElementTree.Element) -> set[str]:
    return set(re.findall(r"^error\[([\w-]+)\]", function.findtext("failure", ""), re.MULTILINE))


def outcome(test: ElementTree.Element) -> str:
    return next((kind for kind in ("failure", "error", "skipped") if test.find(kind) is not None), "passed")


def row(name: str, plain: Ran, checked: Ran) -> str:
    passed = sum(result == "passed" for result in checked.tests.values())
    found = Counter(code for errors in checked.errors.values() for code in errors)
    cells = [
        name,
        importlib.metadata.version(name),
        str(len(checked.tests)),
        str(passed),
        str(len(checked.errors)),
        ", ".join(f"{count} {code}" for code, count in sorted(found.items())),
        f"{plain.seconds:.0f}",
        f"{checked.seconds:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
