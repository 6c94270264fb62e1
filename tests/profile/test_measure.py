"""`gs.profile` as a whole: the contenders, the numbers, and what is said about them."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor

from gradsmith.catalog.exp import exp
from gradsmith.profile import Profile, ProfileError, measure
from gradsmith.profile import profile as gs_profile
from gradsmith.profile.timing import FEWEST, QUIET, Round, Sample

KEYS = {
    "schema", "function", "inputs", "measurements", "limit", "rounds", "others", "machine", "compiling", "notes",
    "from_limit",
}  # fmt: skip


def x(count: int = 1000) -> Tensor:
    return torch.linspace(0, 1, count).requires_grad_()


def quick(*args: Any, **kwargs: Any) -> Profile:
    return gs_profile(*args, **{"compiled": False, "seconds": 0.0, **kwargs})


def test_function_and_reference_are_measured_in_full() -> None:
    found = quick(exp, (x(),), torch.exp)
    assert [m.name for m in found.measurements] == ["exp", "reference"]
    own = found["exp"]
    assert own.saved.total == 4000
    assert own.usage.peak == 8000
    assert own.backward is not None
    assert 0 < own.total.low <= own.total.median <= own.total.high
    assert own.difference == 0
    assert found["reference"].difference is None
    assert found["reference"].ratio == 1
    assert found.rounds >= FEWEST
    assert found.from_limit > 1


def test_a_function_that_is_slower_has_a_ratio_below_one() -> None:
    def slow(x: Tensor) -> Tensor:
        time.sleep(0.02)
        return x.exp()

    def slower(x: Tensor) -> Tensor:
        time.sleep(0.06)
        return x.exp()

    found = quick(slow, (x(),), slower)
    assert found["slow"].ratio is not None
    assert 2 < found["slow"].ratio < 3.5


@pytest.mark.slow
def test_the_compiled_reference_is_a_contender() -> None:
    found = quick(exp, (x(),), torch.exp, compiled=True)
    assert [m.name for m in found.measurements] == ["exp", "reference", "compiled"]
    assert found.compiling is not None
    assert found["compiled"].difference is not None
    assert found["compiled"].difference < 1e-5


def test_a_reference_that_cannot_be_compiled_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: object, **kwargs: object) -> None:
        raise RuntimeError("no compiler found\nand a traceback")

    monkeypatch.setattr(torch, "compile", fails)
    found = quick(exp, (x(),), torch.exp, compiled=True)
    assert [m.name for m in found.measurements] == ["exp", "reference"]
    assert found.notes == ("the reference could not be compiled: RuntimeError: no compiler found",)
    assert found.notes[0] in str(found).replace("\n", " ")


def test_without_a_reference_there_is_nothing_to_compare() -> None:
    found = quick(exp, x())
    assert found["exp"].ratio is None
    assert found["exp"].difference is None
    assert "speed" not in str(found)


def test_without_gradients_the_forward_alone_is_measured() -> None:
    found = quick(exp, x().detach(), torch.exp)
    assert found["exp"].backward is None
    assert found["exp"].saved.total == 0


def test_results_that_differ_are_a_note() -> None:
    found = quick(lambda x: 2 * x.exp(), x(), torch.exp)
    assert found.notes == ("<lambda> and reference do not compute the same: relative difference 1",)


def test_other_outputs_are_an_error() -> None:
    with pytest.raises(ProfileError, match="do not return the same"):
        quick(torch.sum, x(), torch.exp)


def test_what_the_function_raises_comes_through() -> None:
    with pytest.raises(RuntimeError, match="size of tensor"):
        quick(torch.add, (torch.ones(2), torch.ones(3)))


def test_keyword_arguments_reach_both() -> None:
    found = quick(torch.softmax, x(), torch.softmax, kwargs={"dim": 0})
    assert found["softmax"].difference == 0
    assert found.inputs == "float32[1000]*, 0"


def test_json_holds_everything() -> None:
    found = quick(exp, (x(),), torch.exp)
    data = json.loads(found.to_json())
    assert set(data) == KEYS
    assert data["schema"] == 1
    assert data["limit"]["seconds"] == found.limit.seconds
    assert data["limit"]["bound"] == "memory"
    assert data["measurements"][0]["saved"] == {"total": 4000, "new": 4000}
    assert data["machine"]["memory"] == "default"


def test_the_table_fits_80_columns() -> None:
    text = str(quick(exp, (x(10**6),), torch.exp))
    print(text)
    assert max(map(len, text.splitlines())) <= 80
    for word in ("forward", "backward", "speed", "3.81 MiB", "limit (memory)", "equal the reference's", "1 thread"):
        assert word in text


def test_rich_prints_the_same() -> None:
    found = quick(exp, x())
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(found)
    assert "limit (memory)" in console.export_text()


def test_an_unknown_contender_is_named_with_the_known_ones() -> None:
    with pytest.raises(KeyError, match="'compiled'; measured were 'exp', 'reference'"):
        quick(exp, (x(),), torch.exp)["compiled"]


def _with_load(monkeypatch: pytest.MonkeyPatch, others: float | None) -> Profile:
    def rounds(works: Any, seconds: float) -> list[Round]:
        return [Round({work: Sample(0.001, 0.002) for work in works}, others)] * FEWEST

    monkeypatch.setattr(measure, "interleave", rounds)
    return quick(exp, x())


def test_a_busy_machine_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "other processes used 1.2 cores meanwhile" in str(_with_load(monkeypatch, 1.2))
    assert "other processes" not in str(_with_load(monkeypatch, QUIET))


def test_a_load_that_cannot_be_told_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "does not tell whether other processes were busy" in str(_with_load(monkeypatch, None))
