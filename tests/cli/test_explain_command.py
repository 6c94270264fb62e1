"""`gradsmith explain`."""

from __future__ import annotations

import pytest

from gradsmith.check.codes import codes, page


@pytest.mark.parametrize("code", ["gradient-sign", "leaky-guard", "no-jvp"])
def test_a_code_prints_its_page(gradsmith, code):
    result = gradsmith("explain", code)
    assert result.exit_code == 0
    assert result.stdout == page(code).text  # Markdown as it is where the output is no terminal


def test_without_a_code_all_are_listed_under_their_severity(gradsmith):
    lines = gradsmith("explain").stdout.splitlines()
    listed = [line.split()[0] for line in lines if line.startswith("  ") and line.split()[0] in codes()]
    assert listed == list(codes())
    assert [line for line in lines if line and not line.startswith(" ")] == ["errors", "warnings", "notes"]


def test_an_unknown_code_exits_2_and_suggests(gradsmith):
    result = gradsmith("explain", "gradient-sing")
    assert result.exit_code == 2
    assert "unknown code 'gradient-sing': did you mean gradient-sign" in result.stderr
