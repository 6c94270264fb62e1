"""A byte-level transformer that learns Python's standard library, on torch's layers and on gradsmith's.

    python examples/language_model.py                  # about a minute; Ctrl-C and start again: nothing is lost
    python examples/language_model.py --steps 2000     # goes on from where the last run ended

Two models start from the same weights and read the same batches: one as it is written below, with torch.nn alone, and
one that `gs.nn.swap` changed over to gradsmith's layers, attention and gated feed-forward, and that computes norms and
activations again in the backward. They take turns, so that whatever else the machine does slows both alike. Printed
are the loss on text that they have not seen, steps per second, and the memory that training takes in a process of its
own. Where matplotlib is installed, the loss curves are plotted.
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import sysconfig
import time
from contextlib import nullcontext
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn
from torch.nn import functional

import gradsmith as gs

KINDS = ("torch", "gradsmith")
HEAD, WARM_UP, RATE = 32, 10, 2e-3  # features of an attention head; steps; learning rate
SHAPE = ("width", "depth", "context", "batch", "dropout")  # the options that a checkpoint is bound to
console = Console(stderr=True)


class Attention(nn.Module):
    """Causal attention with rotary positions."""

    def __init__(self, width, dropout):
        super().__init__()
        self.heads = width // HEAD
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.drop = nn.Dropout(dropout)

    def forward(self, x, rotation):
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, HEAD)).unbind(2)
        mixed = self.mixed([each.transpose(1, 2) for each in qkv], rotation)
        return self.drop(self.out(mixed.transpose(1, 2).flatten(2)))

    def mixed(self, heads, rotation):
        q, k, v = heads
        q, k = rotate(q, rotation), rotate(k, rotation)
        return functional.scaled_dot_product_attention(q, k, v, is_causal=True)


class SwiGLU(nn.Module):
    def __init__(self, width, dropout):
        super().__init__()
        hidden = 64 * round(8 * width / 3 / 64)
        self.gate = nn.Linear(width, hidden, bias=False)
        self.up = nn.Linear(width, hidden, bias=False)
        self.act = nn.SiLU()
        self.down = nn.Linear(hidden, width, bias=False)
        self.drop = nn.Dropout(dropout)

    def forward(self, x):
        return self.drop(self.down(self.act(self.gate(x)) * self.up(x)))


class Block(nn.Module):
    def __init__(self, width, dropout):
        super().__init__()
        self.norm1, self.norm2 = nn.RMSNorm(width), nn.RMSNorm(width)
        self.attention, self.feed = Attention(width, dropout), SwiGLU(width, dropout)

    def forward(self, x, rotation):
        x = x + self.attention(self.norm1(x), rotation)
        return x + self.feed(self.norm2(x))


class Head(nn.Module):
    """The loss of predicting the next byte."""

    def __init__(self, width):
        super().__init__()
        self.output = nn.Linear(width, 256, bias=False)
        self.loss = nn.CrossEntropyLoss()

    def forward(self, x, targets):
        return self.loss(self.output(x).flatten(0, 1), targets.flatten())


class LanguageModel(nn.Module):
    """Bytes (batch, context + 1) to the mean loss of predicting each from those before it."""

    def __init__(self, width, depth, context, dropout):
        super().__init__()
        self.embed = nn.Embedding(256, width)
        self.blocks = nn.ModuleList(Block(width, dropout) for _ in range(depth))
        self.norm = nn.RMSNorm(width)
        self.head = Head(width)
        frequencies = 1e4 ** -torch.arange(0, 1, 2 / HEAD)
        angles = torch.arange(context)[:, None] * frequencies
        self.register_buffer("rotation", torch.stack((angles.cos(), angles.sin())), persistent=False)

    def forward(self, tokens):
        x = self.embed(tokens[:, :-1])
        for block in self.blocks:
            x = block(x, self.rotation)
        return self.head(self.norm(x), tokens[:, 1:])


def rotate(x, rotation):
    """Turn each pair of features by an angle that grows with the position."""
    cos, sin = rotation
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, a * sin + b * cos), -1)


class LeanAttention(Attention):
    def mixed(self, heads, rotation):
        q, k, v = heads
        q, k = gs.rotary_embedding(q, *rotation), gs.rotary_embedding(k, *rotation)
        v = v.contiguous()  # a view would keep q and k as they were before, too
        del heads
        return gs.attention(q, k, v, is_causal=True)


class LeanSwiGLU(SwiGLU):
    def forward(self, x):
        return self.drop(self.down(gs.swiglu(self.gate(x), self.up(x))))


class Run:
    """A model with its optimizer, its random numbers, and what was measured so far."""

    def __init__(self, kind, options):
        torch.manual_seed(0)
        self.model = LanguageModel(options.width, options.depth, options.context, options.dropout)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=RATE, weight_decay=0.1)
        self.random = torch.get_rng_state()
        self.losses, self.seconds = [], []
        self.saves = nullcontext
        if kind == "gradsmith":
            gs.nn.swap(self.model, also={Attention: LeanAttention, SwiGLU: LeanSwiGLU})
            self.saves = gs.recompute_saves  # norms and activations are computed again, not kept for the next layer

    def step(self, batch):
        """One step of training. A generator state of its own keeps dropout the same whatever the other run does."""
        torch.set_rng_state(self.random)
        start = time.perf_counter()
        self.optimizer.param_groups[0]["lr"] = RATE * min(1, (len(self.losses) + 1) / WARM_UP)
        self.optimizer.zero_grad()
        with self.saves():
            loss = self.model(batch)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.seconds.append(time.perf_counter() - start)
        self.losses.append(loss.item())
        self.random = torch.get_rng_state()

    def evaluate(self, batches):
        self.model.eval()
        with torch.no_grad():
            loss = statistics.mean(self.model(batch).item() for batch in batches)
        self.model.train()
        return loss

    def state(self):
        own = {name: getattr(self, name) for name in ("random", "losses", "seconds")}
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), **own}

    def restore(self, state):
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.random, self.losses, self.seconds = state["random"], state["losses"], state["seconds"]


def text():
    """The modules of the standard library, and the last twentieth of them apart."""
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    data = torch.frombuffer(bytearray(b"".join(file.read_bytes() for file in files)), dtype=torch.uint8)
    cut = len(data) * 19 // 20
    return data[:cut], data[cut:]


def batch_of(data, step, options):
    """The batch of a step: the same in every run, resumed or not."""
    generator = torch.Generator().manual_seed(step)
    starts = torch.randint(len(data) - options.context - 1, (options.batch,), generator=generator)
    return torch.stack([data[start : start + options.context + 1] for start in starts.tolist()]).long()


def save(path, runs, options):
    """Write the checkpoint whole or not at all."""
    partial = path.with_suffix(".partial")
    torch.save({"shape": shape_of(options), "runs": {kind: run.state() for kind, run in runs.items()}}, partial)
    os.replace(partial, path)


def load(path, runs, options):
    state = torch.load(path, weights_only=True)
    if state["shape"] != shape_of(options):
        sys.exit(f"{path} is of another model, {state['shape']}; give those options, another --checkpoint, or --fresh")
    for kind, run in runs.items():
        run.restore(state["runs"][kind])


def shape_of(options):
    return {name: getattr(options, name) for name in SHAPE}


class Interrupt:
    """Ctrl-C and SIGTERM let the step end, so that the checkpoint is whole; a second one ends at once."""

    asked = False

    def __enter__(self):
        self.former = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *error):
        for number, handler in self.former.items():
            signal.signal(number, handler)

    def _ask(self, number, frame):
        self.asked = True
        signal.signal(number, self.former[number])


def train(runs, options):
    """Train to --steps, from the checkpoint where there is one; whether it got there."""
    data, _ = text()
    if options.checkpoint.exists() and not options.fresh:
        load(options.checkpoint, runs, options)
    first = runs[KINDS[0]]
    with Interrupt() as interrupt, progress_bar() as progress:
        task = progress.add_task("-", total=options.steps, completed=len(first.losses))
        for step in range(len(first.losses), options.steps):
            batch = batch_of(data, step, options)
            for kind in KINDS if step % 2 else KINDS[::-1]:
                runs[kind].step(batch)
            progress.update(task, advance=1, description=" / ".join(f"{run.losses[-1]:.3f}" for run in runs.values()))
            if interrupt.asked or (step + 1) % options.every == 0 or step + 1 == options.steps:
                save(options.checkpoint, runs, options)
            if interrupt.asked:
                return False
    return True


def progress_bar():
    columns = (TextColumn("step"), MofNCompleteColumn(), BarColumn(30), TextColumn("loss {task.description}"))
    return Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal)


def memory_of(kind, options):
    """MiB that three steps of training take at most, in a process of its own."""
    shape = [word for name, value in shape_of(options).items() for word in (f"--{name}", str(value))]
    command = [sys.executable, __file__, "--memory-of", kind, "--threads", str(options.threads), *shape]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def print_memory(options):
    """Beyond what a step of the smallest model leaves: torch's code and the workspaces of its libraries."""
    data, _ = text()
    small = argparse.Namespace(**{**vars(options), "width": HEAD, "depth": 1, "context": 16, "batch": 1})
    Run(options.memory_of, small).step(batch_of(data, 0, small))
    before = resident()[0]
    run = Run(options.memory_of, options)
    for step in range(3):
        run.step(batch_of(data, step, options))
    print(resident()[1] - before)


def resident():
    """MiB of memory now and at most, as Linux counts them."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return tuple(int(fields[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))


def report(runs, options):
    _, unseen = text()
    batches = [batch_of(unseen, step, options) for step in range(8)]
    steady = {kind: run.seconds[3:] or run.seconds for kind, run in runs.items()}  # the first steps warm up
    print(f"{'':<10} {'loss':>8} {'steps/s':>9} {'memory':>10}")
    memory = {kind: memory_of(kind, options) for kind in KINDS} if sys.platform == "linux" else {}
    for kind, run in runs.items():
        rate = 1 / statistics.median(steady[kind])
        used = f"{memory[kind]:.0f} MiB" if memory else "-"
        print(f"{kind:<10} {run.evaluate(batches):>8.4f} {rate:>9.2f} {used:>10}")
    theirs, ours = steady.values()
    faster = statistics.median(a / b for a, b in zip(theirs, ours, strict=True))
    less = f", {memory['gradsmith'] / memory['torch']:.2f} times the memory" if memory else ""
    print(f"gradsmith: {faster:.2f} times the steps per second{less}; {len(ours)} steps, {options.threads} threads")


def plot(runs, path):
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        print("no plot: matplotlib is not installed")
        return
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for (kind, run), style in zip(runs.items(), ({"color": "#c4501b"}, {"color": "#0b6e99", "ls": "--"}), strict=True):
        axes.plot(range(1, len(run.losses) + 1), run.losses, label=kind, **style)
    axes.set(xlabel="step", ylabel="loss (nats a byte)", title="training loss, the same batches")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)
    print(f"loss curves: {path}")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in {"steps": 40, "width": 256, "depth": 4, "context": 256, "batch": 16}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--checkpoint", type=Path, default=Path("language_model.pt"))
    parser.add_argument("--every", type=int, default=10, help="steps between checkpoints")
    parser.add_argument("--fresh", action="store_true", help="start anew, whatever the checkpoint holds")
    parser.add_argument("--plot", type=Path, default=Path("language_model.png"))
    parser.add_argument("--memory-of", choices=KINDS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.width % HEAD:
        parser.error(f"--width must be a multiple of {HEAD}")
    return options


def main():
    options = arguments()
    torch.set_num_threads(options.threads)
    if options.memory_of:
        print_memory(options)
        return
    runs = {kind: Run(kind, options) for kind in KINDS}
    if not train(runs, options):
        done = len(runs[KINDS[0]].losses)
        sys.exit(f"interrupted after step {done}; run the same command again to go on from {options.checkpoint}")
    report(runs, options)
    plot(runs, options.plot)


if __name__ == "__main__":
    main()
