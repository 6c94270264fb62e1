"""What cannot be run: one clear line on standard error, exit status 2, and what was recorded is still checked."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from devices import no_device

CALL_WRONG = "Wrong.apply(torch.full((3,), 0.7, requires_grad=True))"


def only_line(result):
    """The one line that the user reads; the report goes to standard output."""
    lines = [line for line in result.stderr.splitlines() if line]
    assert len(lines) == 1, result.stderr
    assert result.exit_code == 2
    return lines[0]


def test_a_missing_script(gradsmith):
    assert only_line(gradsmith("check", "none.py")) == "gradsmith: none.py cannot be read: there is no such file"


def test_a_script_that_does_not_parse(gradsmith, write):
    write("a.py", "def f(:\n")
    line = only_line(gradsmith("check", "a.py"))
    assert line.startswith("gradsmith: a.py cannot be read: SyntaxError: ")
    assert line.endswith("(a.py:1)")


def test_a_script_of_unreadable_bytes(gradsmith, directory):
    (directory / "a.py").write_bytes(b"\x00\xff\xfe")
    assert only_line(gradsmith("check", "a.py")).startswith("gradsmith: a.py cannot be read: ")


def test_a_script_that_raises_names_error_and_line_and_what_it_called_is_checked(gradsmith, write):
    write("a.py", "wrong", CALL_WRONG, "raise ValueError('no data\\nat all')")
    result = gradsmith("check", "a.py")
    assert only_line(result) == "gradsmith: a.py raised ValueError: no data at all (a.py:16)"
    assert "error[gradient-sign] in Wrong" in result.stdout


@pytest.mark.parametrize(
    ("stop", "line"),
    [
        ("import sys; sys.exit(3)", "gradsmith: a.py exited with status 3"),
        ("import sys; sys.exit('no data')", "gradsmith: a.py exited: no data"),
        ("import os; os._exit(4)", "gradsmith: a.py exited with status 4"),
        ("raise KeyboardInterrupt", "gradsmith: a.py was interrupted"),
    ],
)
def test_a_script_that_ends_early_is_said_to_and_what_it_called_is_checked(gradsmith, write, stop, line):
    write("a.py", "wrong", CALL_WRONG, stop)
    result = gradsmith("check", "a.py")
    assert only_line(result) == line
    assert "error[gradient-sign] in Wrong" in result.stdout


@pytest.mark.parametrize("stop", ["import sys; sys.exit()", "import sys; sys.exit(0)", "import os; os._exit(0)"])
def test_an_exit_with_status_0_is_no_problem(gradsmith, write, stop):
    write("a.py", "wrong", CALL_WRONG, stop)
    result = gradsmith("check", "a.py")
    assert (result.exit_code, result.stderr) == (1, "")


def test_a_forked_child_of_the_script_really_exits(write):
    fork = "import os\nif os.fork() == 0:\n    os._exit(0)\nos.wait()"
    write("a.py", "wrong", CALL_WRONG, fork)
    command = [sys.executable, "-c", "from gradsmith.cli import main; main()", "check", "a.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout.count("1 function: 1 error") == 1


def test_a_script_with_endless_recursion(gradsmith, write):
    write("a.py", "def f():\n    f()\nf()")
    assert "a.py raised RecursionError" in only_line(gradsmith("check", "a.py"))


def test_a_script_that_wants_input_and_gets_none(gradsmith, write):
    write("a.py", "input()")
    assert "a.py raised EOFError" in only_line(gradsmith("check", "a.py", stdin=""))


def test_a_script_that_wants_arguments_and_gets_none(gradsmith, write):
    write("a.py", "import argparse\np = argparse.ArgumentParser()\np.add_argument('data')\np.parse_args()")
    result = gradsmith("check", "a.py")
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == "gradsmith: a.py exited with status 2"


@no_device
@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("x = torch.ones(3).cuda()", "AssertionError: Torch not compiled with CUDA enabled"),
        ("raise RuntimeError('expected a CUDA tensor')", "RuntimeError: expected a CUDA tensor"),
        ("import triton_kernels", "ModuleNotFoundError: No module named 'triton_kernels'"),
    ],
)
def test_a_script_that_needs_a_device_which_is_not_here(gradsmith, write, code, cause):
    if torch.version.cuda is not None and ".cuda()" in code:
        pytest.skip("this torch says something else")
    write("a.py", "import torch", code)
    where = "a.py:2; there is no CUDA device here" if "triton" not in code else "a.py:2"
    assert only_line(gradsmith("check", "a.py")) == f"gradsmith: a.py raised {cause} ({where})"


@no_device
def test_inputs_on_a_device_which_is_not_here(gradsmith, write):
    write("layers.py", "right")
    line = only_line(gradsmith("check", "layers:Right", "--inputs", "torch.ones(3, device='cuda')"))
    assert "there is no CUDA device here" in line


def test_arguments_that_cannot_be_copied_are_named_and_other_calls_are_checked(gradsmith, write):
    held = """
        import threading
        import numpy as np
        class Held(Right):
            @staticmethod
            def forward(ctx, x, held):
                ctx.save_for_backward(x)
                return x * x
            @staticmethod
            def backward(ctx, grad):
                return Right.backward(ctx, grad), None
        x = torch.full((3,), 0.7, requires_grad=True)
        Held.apply(x, np.array([threading.Lock()], dtype=object))
        Right.apply(x)
        """
    write("a.py", "right", held)
    result = gradsmith("check", "a.py")
    assert result.exit_code == 0
    told = " ".join(result.stdout.split())
    assert "Held every check: its arguments cannot be copied: TypeError: cannot pickle '_thread.lock' object" in told


def test_a_script_without_a_custom_function(gradsmith, write):
    write("a.py", "import torch\ntorch.ones(3, requires_grad=True).exp().sum().backward()")
    line = only_line(gradsmith("check", "a.py"))
    assert line == "gradsmith: a.py called no custom Function, so there is nothing to check"


def test_a_script_that_defines_a_function_and_calls_none_names_it(gradsmith, write):
    write("a.py", "wrong")
    line = only_line(gradsmith("check", "a.py"))
    assert line == "gradsmith: a.py called no custom Function (it defines Wrong), so there is nothing to check"


def test_inputs_for_a_script_are_refused(gradsmith, write):
    write("a.py", "wrong", CALL_WRONG)
    result = gradsmith("check", "a.py", "--inputs", "torch.ones(3)")
    assert result.exit_code == 2
    assert "--inputs and --kwargs are for package.module:Name" in result.stderr


def test_an_interruption_starts_no_further_script(gradsmith, write):
    write("a/one.py", "wrong", CALL_WRONG, "raise KeyboardInterrupt")
    write("a/two.py", "print('started')")
    result = gradsmith("check", "a", "a/two.py")
    assert only_line(result) == "gradsmith: a/one.py was interrupted"
    assert "started" not in result.stdout
    assert "error[gradient-sign] in Wrong" in result.stdout


def test_a_directory_without_python_files(gradsmith, directory):
    (directory / "empty").mkdir()
    assert only_line(gradsmith("check", "empty")) == "gradsmith: empty contains no Python file"


def test_a_module_that_does_not_exist(gradsmith):
    line = only_line(gradsmith("check", "no_such_module"))
    assert line == "gradsmith: no_such_module is neither a file nor a module that can be imported"


def test_a_module_that_does_not_import(gradsmith, write):
    write("broken_kernels.py", "import torch\n1 / 0")
    line = only_line(gradsmith("check", "broken_kernels:Wrong", "--inputs", "torch.ones(3)"))
    assert line.startswith("gradsmith: module broken_kernels cannot be imported: ZeroDivisionError: division by zero")
    assert "broken_kernels.py:2)" in line


def test_a_name_that_does_not_exist_gets_a_suggestion(gradsmith, write):
    write("some_kernels.py", "wrong")
    line = only_line(gradsmith("check", "some_kernels:Wrongg", "--inputs", "torch.ones(3)"))
    assert line == "gradsmith: some_kernels:Wrongg: some_kernels has no 'Wrongg'; did you mean Wrong?"


def test_a_name_that_cannot_be_called(gradsmith, write):
    write("number_kernels.py", "x = 3")
    line = only_line(gradsmith("check", "number_kernels:x", "--inputs", "torch.ones(3)"))
    assert line.startswith("gradsmith: number_kernels:x is a int, not a Function")


def test_a_name_without_inputs(gradsmith, write):
    write("lonely_kernels.py", "wrong")
    assert "needs arguments to be called with: --inputs" in only_line(gradsmith("check", "lonely_kernels:Wrong"))


@pytest.mark.parametrize("text", ["torch.randn(4", "torch.rnd(4)", "undefined", "1 / 0"])
def test_inputs_that_cannot_be_evaluated(gradsmith, write, text):
    write("input_kernels.py", "wrong")
    line = only_line(gradsmith("check", "input_kernels:Wrong", "--inputs", text))
    assert line.startswith(f"gradsmith: --inputs {text!r} cannot be evaluated: ")
    assert "it may use torch, math, np, numpy" in line


@pytest.mark.parametrize(
    ("inputs", "cause"),
    [
        ("torch.ones(3), torch.ones(3)", "TypeError: Wrong.forward() takes 2 positional arguments but 3 were given"),
        ("[torch.ones(3)]", "TypeError: "),
    ],
)
def test_inputs_that_the_function_does_not_take(gradsmith, write, inputs, cause):
    write("arity_kernels.py", "wrong")
    line = only_line(gradsmith("check", "arity_kernels:Wrong", "--inputs", inputs))
    assert line.startswith(f"gradsmith: arity_kernels:Wrong raised {cause}")
    assert line.endswith(f"on --inputs {inputs!r}")


@pytest.mark.parametrize("inputs", ["3", "'abc'", "torch.arange(3)", "()"])
def test_inputs_that_can_have_no_gradient(gradsmith, write, inputs):
    write("integer_kernels.py", "wrong")
    line = only_line(gradsmith("check", "integer_kernels:Wrong", "--inputs", inputs))
    assert f"nothing in --inputs {inputs!r} can have a gradient" in line


def test_an_interruption_of_the_checks_keeps_what_was_found(gradsmith, write):
    stop = """
        class Stop(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                return 2 * x
            @staticmethod
            def backward(ctx, grad):
                os.kill(os.getppid(), signal.SIGINT)
                time.sleep(10)
        Stop.apply(torch.full((3,), 0.7, requires_grad=True))
        """
    write("a.py", "wrong", CALL_WRONG, "import os, signal, time", stop)
    result = gradsmith("check", "a.py")
    assert only_line(result) == "gradsmith: interrupted while checking a.py"
    assert "error[gradient-sign] in Wrong" in result.stdout


def test_the_same_for_a_signal_while_the_script_runs(write):
    write("a.py", "wrong", CALL_WRONG, "import os, signal\nos.kill(os.getpid(), signal.SIGINT)")
    command = [sys.executable, "-c", "from gradsmith.cli import main; main()", "check", "a.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "gradsmith: a.py was interrupted\n"
    assert "error[gradient-sign] in Wrong" in done.stdout


@pytest.mark.parametrize(
    ("option", "code", "hint"),
    [
        ("--only", "gradient-sgn", "did you mean gradient-sign?"),
        ("--skip", "layout", "did you mean layout-dependent?"),
        ("--only", "zzz", "`gradsmith explain` lists all codes"),
    ],
)
def test_an_unknown_code_gets_near_matches(gradsmith, write, option, code, hint):
    write("a.py", "pass")
    result = gradsmith("check", "a.py", option, code)
    assert result.exit_code == 2
    assert f"unknown code {code!r}: {hint}" in result.stderr


def test_an_output_file_that_cannot_be_written(gradsmith, write):
    write("a.py", "wrong", CALL_WRONG)
    result = gradsmith("check", "a.py", "--output", "nowhere/out.txt")
    assert only_line(result).startswith("gradsmith: nowhere/out.txt cannot be written: ")


def test_one_bad_target_does_not_keep_the_others_from_being_checked(gradsmith, write):
    write("a.py", "wrong", CALL_WRONG)
    result = gradsmith("check", "none.py", "a.py")
    assert "none.py cannot be read" in only_line(result)
    assert "error[gradient-sign] in Wrong" in result.stdout
