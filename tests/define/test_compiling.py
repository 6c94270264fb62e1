"""The compiler: not imported with gradsmith, and told of every op and class, whenever it is."""

import gc
import subprocess
import sys

from gradsmith.define import compiling

SCRIPT = """
import sys
import gradsmith as gs, gradsmith.pytest_plugin, torch

assert "torch._dynamo" not in sys.modules, "imported along"

class Square(gs.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, grad):
        return 2 * ctx.saved_tensors[0] * grad

early = gs.op(lambda x: 3 * x, x=lambda grad: 3 * grad)
torch.compile(lambda x: x, backend="eager")(torch.ones(1))
late = gs.op(lambda x: 5 * x, x=lambda grad: 5 * grad)
x = torch.ones(2, requires_grad=True)
run = torch.compile(lambda x: late(early(Square.apply(gs.exp(x)))), backend="eager", fullgraph=True)
print(torch.autograd.grad(run(x).sum(), x)[0].tolist())
assert not [finder for finder in sys.meta_path if type(finder).__module__.startswith("gradsmith")]
"""


def test_ops_made_before_and_after_its_import_are_traced():
    result = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    values = [float(word) for word in result.stdout.strip("[]\n").split(",")]
    assert values == [values[0]] * 2
    assert abs(values[0] - 30 * 7.38905609893065) < 1e-3  # d/dx 15 e^2x


def test_what_is_gone_by_then_is_not_told(monkeypatch):
    class Owner:
        pass

    monkeypatch.setattr(compiling, "COMPILER", "a module that is not there")
    monkeypatch.setattr(compiling, "_waiting", [])
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    told = []
    kept, gone = Owner(), Owner()
    for owner in (kept, gone):
        compiling.when_compiling(owner, told.append)
    assert told == []
    del gone, owner
    gc.collect()
    for tell in compiling._waiting:
        tell()
    assert told == [kept]
