"""examples/language_model.py: the same curve on both libraries, and nothing lost by an interruption."""

import argparse
import os
import signal
import subprocess
import sys
from pathlib import Path
from statistics import mean

import pytest
import torch
from torch import nn

import gradsmith as gs
from gradsmith.profile.peak import usage
from gradsmith.profile.work import Work

SCRIPT = Path(__file__).parents[2] / "examples" / "language_model.py"
SHAPE = {"width": 32, "depth": 1, "context": 32, "batch": 2, "dropout": 0.1}


@pytest.fixture
def script(example):
    return example("language_model")


@pytest.fixture
def train(script, tmp_path):
    """Train to so many steps in this process, with a signal after one of them; the checkpoint's contents."""

    def train(steps, folder="", *, signal_at=None, number=signal.SIGINT, **more):
        path = tmp_path / folder / "model.pt"
        path.parent.mkdir(exist_ok=True)
        options = argparse.Namespace(
            **{**SHAPE, "steps": steps, "checkpoint": path, "fresh": False, "every": 3, **more}
        )
        runs = {kind: script.Run(kind, options) for kind in script.KINDS}
        step = runs["torch"].step

        def interrupted(batch):
            if len(runs["torch"].losses) + 1 == signal_at:
                os.kill(os.getpid(), number)
            step(batch)

        runs["torch"].step = interrupted
        assert script.train(runs, options) == (signal_at is None)
        return torch.load(path)

    return train


def assert_same(one, other):
    """Every tensor to the bit; what was timed is another time."""
    for kind in ("torch", "gradsmith"):
        a, b = one["runs"][kind], other["runs"][kind]
        assert a["losses"] == b["losses"]
        assert torch.equal(a["random"], b["random"])
        assert all(torch.equal(a["model"][name], b["model"][name]) for name in a["model"])
        for index, state in a["optimizer"]["state"].items():
            assert all(torch.equal(state[name], b["optimizer"]["state"][index][name]) for name in state)


def test_both_follow_the_same_curve_from_the_same_start(train):
    theirs, ours = (run["losses"] for run in train(60)["runs"].values())
    assert theirs[0] == pytest.approx(ours[0], abs=0.05)  # dropout may draw other numbers
    end = mean(theirs[-10:])
    assert end < theirs[0] - 1
    assert mean(ours[-10:]) == pytest.approx(end, abs=0.15)


def test_a_resumed_run_is_the_uninterrupted_one(train):
    train(3)
    assert_same(train(8), train(8, "whole"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_lets_the_step_end_and_loses_nothing(train, number):
    handler = signal.getsignal(number)
    interrupted = train(10**6, signal_at=5, number=number)
    assert len(interrupted["runs"]["torch"]["losses"]) == len(interrupted["runs"]["gradsmith"]["losses"]) == 5
    assert signal.getsignal(number) == handler
    assert_same(train(8), train(8, "whole"))


def test_a_crash_loses_what_came_after_the_last_checkpoint_and_no_more(train, script, monkeypatch):
    original = script.batch_of

    def crashing(data, step, options):
        if step == 5:
            raise MemoryError
        return original(data, step, options)

    monkeypatch.setattr(script, "batch_of", crashing)
    with pytest.raises(MemoryError):
        train(8)
    monkeypatch.setattr(script, "batch_of", original)
    assert len(train(3)["runs"]["torch"]["losses"]) == 3  # the checkpoint of step 3 is whole, and no further
    assert_same(train(8), train(8, "whole"))


def test_a_checkpoint_of_another_model_is_refused_unless_told_to_start_anew(train):
    train(2)
    with pytest.raises(SystemExit, match=r"model.pt is of another model, .*'width': 32.* or --fresh"):
        train(2, width=64)
    assert train(1, width=64, fresh=True)["shape"]["width"] == 64


@pytest.mark.slow
def test_the_command_prints_loss_speed_and_memory_of_both_and_plots(tmp_path):
    shape = [word for name, value in SHAPE.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, str(SCRIPT), "--steps", "6", "--threads", "1", *shape]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    head, torch_row, our_row, *rest = result.stdout.splitlines()
    assert head.split() == ["loss", "steps/s", "memory"]
    assert torch_row.split()[0] == "torch"
    assert our_row.split()[0] == "gradsmith"
    assert float(our_row.split()[1]) == pytest.approx(float(torch_row.split()[1]), abs=0.02)
    assert our_row.endswith("MiB" if sys.platform == "linux" else "-")
    assert "times the steps per second" in rest[0]
    pytest.importorskip("matplotlib")
    assert (tmp_path / "language_model.png").read_bytes().startswith(b"\x89PNG")


def test_the_model_is_written_with_torch_alone_and_swapped(script):
    options = argparse.Namespace(width=32, depth=1, context=16, batch=2, dropout=0.0)
    plain, ours = (script.Run(kind, options).model for kind in script.KINDS)
    assert not any(type(module).__module__.startswith("gradsmith") for module in plain.modules())
    assert type(ours.blocks[0].feed.gate) is gs.nn.Linear
    assert type(ours.blocks[0].feed) is script.LeanSwiGLU
    tokens = torch.randint(256, (2, 17))
    losses = [model.double()(tokens) for model in (plain, ours)]
    assert losses[1].item() == pytest.approx(losses[0].item(), rel=1e-10)
    for loss in losses:
        loss.backward()
    for (name, a), b in zip(plain.named_parameters(), ours.parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, rtol=1e-8, atol=1e-12), name


class Lean(nn.Module):
    """A swapped model as it is trained."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, tokens):
        with gs.recompute_saves():
            return self.model(tokens)


def test_the_lean_model_takes_less_memory(script):
    options = argparse.Namespace(width=64, depth=2, context=64, batch=4, dropout=0.1)
    plain, ours = (script.Run(kind, options).model for kind in script.KINDS)
    tokens = torch.randint(256, (4, 65))
    peaks = [usage(Work("step", model, (tokens,))).peak for model in (plain, Lean(ours))]
    assert 0 < peaks[1] < 0.75 * peaks[0]


def test_attention_is_causal_and_rotation_keeps_lengths(script):
    torch.manual_seed(0)
    attention = script.Attention(64, 0.0)
    model = script.LanguageModel(64, 1, 8, 0.0)
    x = torch.randn(1, 8, 64)
    other = x.clone()
    other[:, 5:] += 1
    with torch.no_grad():
        difference = attention(x, model.rotation) - attention(other, model.rotation)
    assert difference[:, :5].abs().max() == 0
    assert difference[:, 5:].abs().min() > 0
    turned = script.rotate(x.unflatten(-1, (2, 32)).transpose(1, 2), model.rotation)
    assert torch.allclose(turned.norm(dim=-1), x.unflatten(-1, (2, 32)).transpose(1, 2).norm(dim=-1), atol=1e-5)


def test_batches_depend_on_the_step_alone(script):
    data, unseen = script.text()
    options = argparse.Namespace(context=16, batch=2)
    assert torch.equal(script.batch_of(data, 3, options), script.batch_of(data, 3, options))
    assert not torch.equal(script.batch_of(data, 3, options), script.batch_of(data, 4, options))
    assert 0 < len(unseen) < len(data)
    assert isinstance(script.LanguageModel(32, 1, 8, 0.0).head.loss, nn.CrossEntropyLoss)
