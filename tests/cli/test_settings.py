"""`[tool.gradsmith]` in pyproject.toml."""

from __future__ import annotations

import pytest

CALL_WRONG = "Wrong.apply(torch.full((3,), 0.7, requires_grad=True))"


def test_a_setting_is_the_default_of_its_option(gradsmith, write):
    write("a.py", "wrong", CALL_WRONG)
    write("pyproject.toml", '[tool.gradsmith]\nskip = ["gradient-sign"]')
    assert gradsmith("check", "a.py").exit_code == 0


def test_the_command_line_wins(gradsmith, write):
    write("a.py", "wrong", CALL_WRONG)
    write("pyproject.toml", '[tool.gradsmith]\nskip = ["gradient-sign"]')
    assert gradsmith("check", "a.py", "--skip", "gradient-count").exit_code == 1


def test_settings_are_found_above_this_directory(gradsmith, write, directory, monkeypatch):
    write("deep/er/a.py", "wrong", CALL_WRONG)
    write("pyproject.toml", '[tool.gradsmith]\nskip = ["gradient-sign"]')
    monkeypatch.chdir(directory / "deep" / "er")
    assert gradsmith("check", "a.py").exit_code == 0


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[tool.gradsmith]\nstrickt = true", "unknown setting tool.gradsmith.strickt: did you mean strict?"),
        ('[tool.gradsmith]\nlimit = "many"', "tool.gradsmith.limit must be int, got 'many'"),
        ("[tool.gradsmith]\nlimit = true", "tool.gradsmith.limit must be int, got True"),
        ('[tool.gradsmith]\nonly = ["gradient-sgn"]', "unknown code 'gradient-sgn': did you mean gradient-sign?"),
        ("[tool.gradsmith\n", "pyproject.toml cannot be read: "),
    ],
)
def test_a_setting_that_cannot_be_followed_is_one_clear_line(gradsmith, write, text, line):
    write("a.py", "wrong", CALL_WRONG)
    write("pyproject.toml", text)
    result = gradsmith("check", "a.py")
    assert result.exit_code == 2
    assert line in result.stderr
