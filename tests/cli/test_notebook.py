"""A notebook is a program: its cells run in order, and findings name the cell."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import pytest
from squares import program

CALL = "{}.apply(torch.full((3,), 0.7, requires_grad=True))"


@pytest.fixture
def notebook(directory):
    """Write a notebook of the given cells of code, with a cell of text before each."""

    def write(name, *sources, language="python"):
        cells = []
        for source in sources:
            text = textwrap.dedent(source).strip("\n")
            cells += [
                {"cell_type": "markdown", "metadata": {}, "source": ["# What follows\n", "in words"]},
                {"cell_type": "code", "metadata": {}, "source": text.splitlines(keepends=True), "outputs": []},
            ]
        document = {"cells": cells, "metadata": {"kernelspec": {"language": language}}, "nbformat": 4}
        (directory / name).write_text(json.dumps(document))

    return write


def test_a_function_of_a_cell_is_checked_and_its_fault_named_by_cell_and_line(gradsmith, notebook):
    notebook("a.ipynb", "import torch", program("Wrong"), CALL.format("Wrong"))
    result = gradsmith("check", "a.ipynb")
    assert result.exit_code == 1
    assert "error[gradient-sign] in Wrong" in result.stdout
    assert "a.ipynb[2]:" in result.stdout
    assert "def backward" in result.stdout


def test_a_page_shows_the_lines_of_a_cell_though_the_notebook_ran_in_another_process(notebook, directory):
    notebook("a.ipynb", program("Wrong"), CALL.format("Wrong"))
    command = [sys.executable, "-c", "from gradsmith.cli import main; main()", "check", "a.ipynb", "--html", "out.html"]
    subprocess.run(command, cwd=directory, capture_output=True)
    assert "return -2 * grad * x" in (directory / "out.html").read_text()


def test_a_right_one_exits_0(gradsmith, notebook):
    notebook("a.ipynb", program("Right"), CALL.format("Right"))
    assert gradsmith("check", "a.ipynb").exit_code == 0


def test_comments_that_allow_a_code_are_read(gradsmith, notebook):
    allowed = program("Wrong").replace("class ", "# gradsmith: allow gradient-sign meant so\nclass ")
    notebook("a.ipynb", allowed, CALL.format("Wrong"))
    assert gradsmith("check", "a.ipynb").exit_code == 0


@pytest.mark.parametrize(
    "cell",
    [
        "%matplotlib inline\nx = 1",
        "!pip install nothing\nx = 1",
        "if True:\n    %load_ext autoreload\nx = 1",
        "x = 1\nx?",
        "%%time\nx = 1",
    ],
)
def test_what_is_for_ipython_is_left_out_and_the_rest_runs(gradsmith, notebook, cell):
    notebook("a.ipynb", cell, "assert x == 1; display(x)", program("Right"), CALL.format("Right"))
    result = gradsmith("check", "a.ipynb")
    assert (result.exit_code, result.stderr) == (0, "")


def test_cells_in_another_language_are_left_out(gradsmith, notebook):
    notebook("a.ipynb", "%%bash\nexit 3", program("Right"), CALL.format("Right"))
    assert gradsmith("check", "a.ipynb").exit_code == 0


def test_python_that_starts_with_a_percent_sign_is_python(gradsmith, notebook):
    notebook("a.ipynb", 'x = ("%d"\n%int(7))\nassert x == "7"', program("Right"), CALL.format("Right"))
    assert gradsmith("check", "a.ipynb").exit_code == 0


@pytest.mark.parametrize(
    ("cell", "line"),
    [
        ("x = 1\nraise ValueError('no data')", "a.ipynb raised ValueError: no data (a.ipynb[3]:2)"),
        ("x = 1\ndef f(:", "a.ipynb raised SyntaxError: invalid syntax (a.ipynb[3]:2)"),
    ],
)
def test_a_cell_that_fails_is_named_and_what_ran_before_is_checked(gradsmith, notebook, cell, line):
    notebook("a.ipynb", program("Wrong"), CALL.format("Wrong"), cell)
    result = gradsmith("check", "a.ipynb")
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [f"gradsmith: {line}"]
    assert "error[gradient-sign] in Wrong" in result.stdout


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("no json", "a.ipynb cannot be read: JSONDecodeError: "),
        ('{"worksheets": []}', "a.ipynb is no notebook of format 4: KeyError: "),
        ("[]", "a.ipynb is no notebook of format 4: TypeError: "),
    ],
)
def test_a_file_that_is_no_notebook(gradsmith, directory, text, line):
    (directory / "a.ipynb").write_text(text)
    result = gradsmith("check", "a.ipynb")
    assert result.exit_code == 2
    assert result.stderr.startswith(f"gradsmith: {line}")


def test_a_notebook_in_another_language(gradsmith, notebook):
    notebook("a.ipynb", "println(1)", language="julia")
    assert gradsmith("check", "a.ipynb").stderr == "gradsmith: a.ipynb is a notebook in julia, not in Python\n"


def test_a_directory_means_its_notebooks_too(gradsmith, notebook, write):
    write("b.py", "right", CALL.format("Right"))
    notebook("a.ipynb", program("Wrong"), CALL.format("Wrong"))
    result = gradsmith("check", ".")
    assert "Wrong" in result.stdout
    assert "Right" in result.stdout
