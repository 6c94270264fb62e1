"""`gs.sweep`: a profile for each size, as a table, JSON and a picture."""

from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gradsmith.catalog.exp import exp
from gradsmith.profile import ProfileError, Sweep, sweep


def inputs(n: int) -> tuple[Tensor]:
    return (torch.ones(n, requires_grad=True),)


@pytest.fixture(scope="module")
def found() -> Sweep:
    return sweep(exp, inputs, [1000, 10, 10], torch.exp, compiled=False, seconds=0.0)


def test_there_is_a_profile_for_each_size_in_order(found: Sweep) -> None:
    assert list(found.profiles) == [10, 1000]
    assert [p["exp"].saved.total for p in found.profiles.values()] == [40, 4000]


def test_progress_is_told_before_each_size() -> None:
    seen: list[int] = []
    sweep(exp, inputs, [3, 5], compiled=False, seconds=0.0, before=seen.append)
    assert seen == [3, 5]


@pytest.mark.parametrize("sizes", [[], [0], [4, -1]])
def test_sizes_must_be_positive_and_at_least_one(sizes: list[int]) -> None:
    with pytest.raises(ProfileError, match="sizes must be positive and at least one"):
        sweep(exp, inputs, sizes)


def test_the_table_has_a_row_for_each_size_within_80_columns(found: Sweep) -> None:
    lines = str(found).splitlines()
    assert lines[1].split()[:5] == ["n", "exp", "reference", "limit", "speed"]
    assert [line.split()[0] for line in lines[2:4]] == ["10", "1000"]
    assert max(map(len, lines)) <= 80


def test_without_a_reference_the_table_compares_nothing() -> None:
    text = str(sweep(exp, inputs, [10], compiled=False, seconds=0.0))
    assert "reference" not in text
    assert "speed" not in text


def test_notes_say_the_size() -> None:
    wrong = sweep(lambda x: 2 * x.exp(), inputs, [10], torch.exp, compiled=False, seconds=0.0)
    assert wrong.notes == ("n = 10: <lambda> and reference do not compute the same: relative difference 1",)


def test_json_holds_every_profile(found: Sweep) -> None:
    data = json.loads(found.to_json())
    assert data["function"] == "exp"
    assert [entry["n"] for entry in data["profiles"]] == [10, 1000]


@pytest.mark.parametrize(("name", "start"), [("a.png", b"\x89PNG"), ("a.svg", b"<?xml"), ("a.pdf", b"%PDF")])
def test_the_picture_has_the_format_of_its_name(found: Sweep, tmp_path: Path, name: str, start: bytes) -> None:
    pytest.importorskip("matplotlib")
    found.plot(tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(start)


def test_the_picture_names_every_contender_and_the_limit(found: Sweep, tmp_path: Path) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        found.plot(tmp_path / "a.svg")
    text = (tmp_path / "a.svg").read_text()
    for word in ("exp", "reference", "limit of the machine", "peak memory", "times the limit", "1,000"):
        assert word in text


def test_without_matplotlib_the_error_says_how_to_get_it(
    found: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ModuleNotFoundError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ProfileError, match=r"pip install 'gradsmith\[plot\]'"):
        found.plot(tmp_path / "a.png")
