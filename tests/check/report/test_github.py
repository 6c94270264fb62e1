"""GitHub annotations, in the escaping that GitHub's runner undoes."""

from __future__ import annotations

from dataclasses import replace

from gradsmith.check.report import github


def test_a_finding_becomes_an_annotation_at_its_line(results, source, monkeypatch):
    monkeypatch.chdir(source.parent)
    assert github.render(results).splitlines() == [
        "::error file=layers.py,line=4,title=gradient-scale in Linear"
        "::backward returns 2x the derivative for `weight` in all 12 elements%0Adivide the gradient for `weight` by 2",
        "::notice title=no-jvp in Exp::forward mode is refused: no `jvp`",
        "::warning title=needless-save in Exp::`x` is saved and never read: 50%25 of it, at 2:1",
        "3 functions: 1 error, 1 warning, 1 note",
    ]


def test_properties_escape_what_would_end_them(results, warning):
    odd = replace(warning, function="Exp, of: x")
    outcome = replace(results.outcomes[1], report=replace(results.outcomes[1].report, findings=(odd,)))
    assert "title=needless-save in Exp%2C of%3A x::" in github.render(replace(results, outcomes=(outcome,)))


def test_what_could_not_be_run_is_an_error(results):
    assert "::error title=gradsmith::a.py raised%0Aodd" in github.render(
        replace(results, problems=("a.py raised\nodd",))
    )
