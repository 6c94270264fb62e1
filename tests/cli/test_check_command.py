"""`gradsmith check` on programs that run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from xml.etree import ElementTree

import pytest

CALL_RIGHT = "Right.apply(torch.full((3,), 0.7, requires_grad=True))"
CALL_WRONG = "Wrong.apply(torch.full((3,), 0.7, requires_grad=True))"


def test_a_right_function_exits_0(gradsmith, write):
    write("a.py", "right", CALL_RIGHT)
    result = gradsmith("check", "a.py")
    assert result.exit_code == 0
    assert "1 function: 0 errors" in result.stdout


def test_a_wrong_function_exits_1_and_is_named_with_code_file_and_line(gradsmith, write):
    write("a.py", "wrong", CALL_WRONG)
    result = gradsmith("check", "a.py")
    assert result.exit_code == 1
    assert "error[gradient-sign] in Wrong, argument x" in result.stdout
    assert "--> a.py:11" in result.stdout
    assert "def backward(ctx, grad):" in result.stdout


def test_each_function_has_a_row_in_the_summary(gradsmith, write):
    write("a.py", "right", "wrong", CALL_RIGHT, CALL_WRONG)
    rows = gradsmith("check", "a.py").stdout.splitlines()
    assert any(row.startswith("Right ") and " ok " in row for row in rows)
    assert any(row.startswith("Wrong ") and " 1 error " in row for row in rows)


def test_the_script_runs_as_main_with_its_own_arguments_and_its_output_goes_through(gradsmith, write):
    write("a.py", "right", f"import sys\nif __name__ == '__main__':\n    print(sys.argv, __file__)\n    {CALL_RIGHT}")
    result = gradsmith("check", "a.py", "--", "--epochs", "3")
    assert "['a.py', '--epochs', '3'] a.py" in result.stdout
    assert result.exit_code == 0


def test_the_script_finds_modules_beside_it_as_under_python(gradsmith, write):
    write("scripts/helper.py", "right")
    write("scripts/a.py", "import torch\nfrom helper import Right", CALL_RIGHT)
    assert gradsmith("check", "scripts/a.py").exit_code == 0


def test_the_process_is_left_as_it_was(gradsmith, write):
    write("a.py", "right", CALL_RIGHT)
    before = sys.modules["__main__"], list(sys.argv), list(sys.path), os._exit
    gradsmith("check", "a.py", "--", "x")
    assert (sys.modules["__main__"], sys.argv, sys.path, os._exit) == before


def test_the_script_reads_standard_input(gradsmith, write):
    write("a.py", "right", f"n = int(input())\n{CALL_RIGHT}\nprint('read', n)")
    result = gradsmith("check", "a.py", stdin="7\n")
    assert "read 7" in result.stdout
    assert result.exit_code == 0


def test_functions_called_in_threads_are_recorded_and_the_threads_are_waited_for(gradsmith, write):
    work = f"""
        import threading, time
        def work():
            time.sleep(0.2)
            {CALL_WRONG}
        threading.Thread(target=work).start()
        """
    write("a.py", "wrong", work)
    assert "gradient-sign" in gradsmith("check", "a.py").stdout


def test_functions_defined_in_closures_are_checked(gradsmith, write):
    closure = """
        import torch
        def scaled(factor):
            class Scaled(torch.autograd.Function):
                @staticmethod
                def forward(ctx, x):
                    return factor * x
                @staticmethod
                def backward(ctx, grad):
                    return -factor * grad
            return Scaled.apply
        scaled(3.0)(torch.ones(2, requires_grad=True))
        """
    write("a.py", closure)
    assert "error[gradient-sign] in Scaled" in gradsmith("check", "a.py").stdout


def test_a_recursive_function_is_checked(gradsmith, write):
    recursive = """
        import torch
        class Power(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x, n):
                ctx.save_for_backward(x)
                ctx.n = n
                with torch.no_grad():
                    return x if n == 1 else x * Power.apply(x, n - 1)
            @staticmethod
            def backward(ctx, grad):
                (x,) = ctx.saved_tensors
                return grad * ctx.n * x ** (ctx.n - 1), None
        Power.apply(torch.full((2,), 1.5, requires_grad=True), 3)
        """
    write("a.py", recursive)
    result = gradsmith("check", "a.py", "--only", "gradient-wrong", "--only", "gradient-scale")
    assert result.exit_code == 0, result.output


def test_a_function_is_checked_on_a_few_different_inputs(gradsmith, write):
    write("a.py", "right", "for n in range(1, 6):\n    Right.apply(torch.full((n,), 0.7, requires_grad=True))")
    functions = json.loads(gradsmith("check", "a.py", "--limit", "2", "--format", "json").stdout)["functions"]
    assert [(f["function"], f["cases"]) for f in functions] == [("Right", 2)]


def test_one_name_is_checked_with_given_inputs(gradsmith, write):
    write("named_kernels.py", "wrong")
    result = gradsmith("check", "named_kernels:Wrong", "--inputs", "torch.randn(4, 3)")
    assert result.exit_code == 1
    assert "gradient-sign" in result.stdout


def test_keyword_arguments_and_numpy_and_math_may_be_used_for_inputs(gradsmith, write):
    write("functions.py", "def scaled(x, factor=1.0):\n    return factor * x")
    given = ("--inputs", "torch.from_numpy(np.ones(3))", "--kwargs", "factor=math.pi")
    assert gradsmith("check", "functions:scaled", *given).exit_code == 0


def test_a_module_runs_as_python_m_would(gradsmith, write):
    write("package/__init__.py")
    write("package/layers.py", "wrong")
    write("package/train.py", f"import torch\nfrom .layers import Wrong\nif __name__ == '__main__':\n    {CALL_WRONG}")
    assert "gradient-sign" in gradsmith("check", "package.train").stdout


def test_a_directory_means_every_script_in_it(gradsmith, write):
    write("scripts/one.py", "right", CALL_RIGHT)
    write("scripts/two.py", "wrong", CALL_WRONG)
    write("scripts/.hidden/three.py", "raise SystemExit(3)")
    result = gradsmith("check", "scripts")
    assert result.exit_code == 1
    assert "2 functions" in result.stdout


def test_json_on_standard_output_is_not_disturbed_by_the_script(gradsmith, write):
    write("a.py", "wrong", CALL_WRONG, "print('hello')")
    result = gradsmith("check", "a.py", "--format", "json")
    assert json.loads(result.stdout)["findings"][0]["code"] == "gradient-sign"
    assert "hello" in result.stderr


def test_json_is_not_disturbed_by_what_a_child_process_prints(write):
    write("a.py", "wrong", CALL_WRONG, "import os\nos.system('echo from a child')")
    command = [sys.executable, "-c", "from gradsmith.cli import main; main()", "check", "a.py", "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert json.loads(done.stdout)["counts"]["error"] == 1
    assert "from a child" in done.stderr


def test_reports_go_to_files(gradsmith, write, directory):
    write("a.py", "wrong", CALL_WRONG)
    gradsmith("check", "a.py", "--format", "junit", "--output", "out.xml", "--html", "out.html")
    assert ElementTree.parse(directory / "out.xml").getroot().get("failures") == "1"
    assert "gradient-sign" in (directory / "out.html").read_text()


def test_github_annotations_name_file_and_line(gradsmith, write):
    write("a.py", "wrong", CALL_WRONG)
    assert (
        "::error file=a.py,line=11,title=gradient-sign in Wrong::"
        in gradsmith("check", "a.py", "--format", "github").stdout
    )


def test_only_and_skip_choose_the_codes(gradsmith, write):
    write("a.py", "wrong", CALL_WRONG)
    assert gradsmith("check", "a.py", "--skip", "gradient-sign").exit_code == 0
    assert gradsmith("check", "a.py", "--only", "gradient-count").exit_code == 0
    assert gradsmith("check", "a.py", "--only", "gradient-sign").exit_code == 1


def test_several_functions_at_a_time_give_the_same_answer(gradsmith, write):
    write("a.py", "right", "wrong", CALL_RIGHT, CALL_WRONG)
    result = gradsmith("check", "a.py", "-j", "2")
    assert result.exit_code == 1
    assert "2 functions: 1 error" in result.stdout


def test_a_seed_makes_the_inputs_of_a_script_repeatable(gradsmith, write):
    write("a.py", "wrong", "Wrong.apply(torch.randn(3, requires_grad=True))")

    def evidence():
        document = json.loads(gradsmith("check", "a.py", "--seed", "3", "--format", "json").stdout)
        return document["findings"][0]["evidence"]["got"]

    assert evidence() == evidence()


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_says_what_a_target_is_and_what_the_exit_status_means(gradsmith, option):
    text = " ".join(gradsmith("check", option).stdout.split())
    assert "A TARGET is a script" in text
    assert "Exit status: 0 nothing wrong, 1 errors found, 2 something could not be run." in text


def test_what_is_defined_and_never_called_is_listed_as_not_checked(gradsmith, write):
    write("a.py", "right", "wrong", CALL_RIGHT)
    result = gradsmith("check", "a.py")
    assert result.exit_code == 0
    assert any(row.split()[:3] == ["Wrong", "not", "checked"] for row in result.stdout.splitlines())
    assert "1 function: 0 errors" in result.stdout
    assert "Wrong  every check: the program defines it and never calls it" in result.stdout


def test_a_base_class_is_called_where_a_derived_one_is(gradsmith, write):
    write("a.py", "right", "class Derived(Right): pass", "Derived.apply(torch.full((3,), 0.7, requires_grad=True))")
    assert "not checked" not in gradsmith("check", "a.py").stdout


def test_an_uncalled_op_is_listed_and_imported_functions_are_not(gradsmith, write):
    write("uncalled_layers.py", "right", "class Other(Right): pass")
    op = "import gradsmith as gs\nexp = gs.op(torch.exp, x=lambda grad, out: grad * out)"
    write("a.py", "import torch\nfrom uncalled_layers import Right, Other", op, CALL_RIGHT)
    result = gradsmith("check", "a.py")
    listed = [row.split()[0] for row in result.stdout.splitlines() if "not checked" in row]
    assert listed == ["exp"]


def test_an_output_encoding_that_lacks_characters_is_no_reason_to_fail(write):
    write("a.py", "right", CALL_RIGHT)
    command = [sys.executable, "-c", "from gradsmith.cli import main; main()", "check", "a.py"]
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, text=True, env=ascii_only, check=False)
    assert (done.returncode, done.stderr) == (0, "")
