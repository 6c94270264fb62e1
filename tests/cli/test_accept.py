"""Accepted findings: comments, settings and a baseline. None of them is silent."""

from __future__ import annotations

import json

import pytest

CALL_WRONG = "Wrong.apply(torch.full((3,), 0.7, requires_grad=True))"


def commented(write, comment, above="class Wrong"):
    file = write("a.py", "wrong", CALL_WRONG)
    file.write_text(file.read_text().replace(above, f"{comment}\n{above}", 1))


def test_a_comment_above_the_class_accepts_a_code_and_its_reason_is_printed(gradsmith, write):
    commented(write, "# gradsmith: allow gradient-sign reversed on purpose")
    result = gradsmith("check", "a.py")
    assert result.exit_code == 0
    printed = " ".join(result.stdout.split())
    assert "gradient-sign: allowed in" in printed
    assert "reversed on purpose" in printed


def test_a_comment_on_the_line_of_the_class_does_the_same(gradsmith, write):
    file = write("a.py", "wrong", CALL_WRONG)
    line = "class Wrong(torch.autograd.Function):"
    file.write_text(file.read_text().replace(line, f"{line}  # gradsmith: allow gradient-sign on purpose"))
    assert gradsmith("check", "a.py").exit_code == 0


def test_a_comment_above_an_op_does_the_same(gradsmith, write):
    op = """
        import torch, gradsmith as gs
        # gradsmith: allow gradient-sign on purpose
        @gs.op(
            x=lambda grad, x: -2 * grad * x,
        )
        def square(x):
            return x * x
        square(torch.full((3,), 0.7, requires_grad=True))
        """
    write("a.py", op)
    result = gradsmith("check", "a.py")
    assert "gradient-sign: allowed in" in " ".join(result.stdout.split())
    assert result.exit_code == 0


def test_a_comment_accepts_no_other_code(gradsmith, write):
    commented(write, "# gradsmith: allow gradient-scale on purpose")
    assert gradsmith("check", "a.py").exit_code == 1


def test_a_comment_accepts_nothing_of_another_function(gradsmith, write):
    commented(write, "# gradsmith: allow gradient-sign on purpose\nx = 1\n")
    assert gradsmith("check", "a.py").exit_code == 1


@pytest.mark.parametrize(
    ("comment", "line"),
    [
        ("# gradsmith: allow gradient-sign", "allow gradient-sign must be followed by a reason"),
        ("# gradsmith: allow gradient-sgn why", "unknown code 'gradient-sgn': did you mean gradient-sign?"),
    ],
)
def test_a_comment_that_cannot_be_followed_is_a_problem_with_file_and_line(gradsmith, write, comment, line):
    commented(write, comment)
    result = gradsmith("check", "a.py")
    assert result.exit_code == 2
    assert "a.py:4: " in result.stderr
    assert line in result.stderr


def test_settings_accept_a_code_of_a_function(gradsmith, write):
    write("a.py", "wrong", CALL_WRONG)
    entry = '[[tool.gradsmith.allow]]\nfunction = "Wrong"\ncode = "gradient-sign"\nreason = "reversed"'
    write("pyproject.toml", entry)
    result = gradsmith("check", "a.py")
    assert result.exit_code == 0
    assert "allowed in pyproject.toml: reversed" in " ".join(result.stdout.split())


def test_settings_that_lack_a_reason_are_refused(gradsmith, write):
    write("a.py", "wrong", CALL_WRONG)
    write("pyproject.toml", '[[tool.gradsmith.allow]]\nfunction = "Wrong"\ncode = "gradient-sign"')
    result = gradsmith("check", "a.py")
    assert result.exit_code == 2
    assert "takes function, code and reason, got code, function" in result.stderr


def test_a_baseline_accepts_what_was_there_and_fails_on_what_is_new(gradsmith, write, directory):
    write("a.py", "wrong", CALL_WRONG)
    assert gradsmith("check", "a.py", "--write-baseline", "known.json").exit_code == 0
    old = gradsmith("check", "a.py", "--baseline", "known.json")
    assert old.exit_code == 0
    assert "known in known.json" in old.stdout
    source = (directory / "a.py").read_text()
    (directory / "a.py").write_text("\n".join(["# a line more", source.replace("Wrong", "Worse"), source]))
    new = gradsmith("check", "a.py", "--baseline", "known.json")
    assert new.exit_code == 1
    assert "in Worse" in new.stdout
    assert "in Wrong" not in new.stdout


def test_a_baseline_holds_no_lines_and_no_notes(gradsmith, write, directory):
    write("a.py", "wrong", CALL_WRONG)
    gradsmith("check", "a.py", "--write-baseline", "known.json")
    assert json.loads((directory / "known.json").read_text()) == {
        "schema": 1,
        "findings": [{"function": "Wrong", "code": "gradient-sign", "argument": "x", "file": "a.py"}],
    }


@pytest.mark.parametrize("text", [None, "{", '{"schema": 2, "findings": []}', "[]"])
def test_a_baseline_that_cannot_be_read_is_one_clear_line(gradsmith, write, directory, text):
    write("a.py", "wrong", CALL_WRONG)
    if text is not None:
        (directory / "known.json").write_text(text)
    result = gradsmith("check", "a.py", "--baseline", "known.json")
    assert result.exit_code == 2
    assert "baseline known.json cannot be read: " in result.stderr
