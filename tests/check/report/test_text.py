"""The report for a terminal."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from gradsmith.check.finding import Skipped
from gradsmith.check.report import text


@pytest.fixture
def here(source, monkeypatch):
    monkeypatch.chdir(source.parent)


def test_a_report_reads_as_this(results, here):
    assert text.render(results) == EXPECTED


def test_no_line_is_wider_than_asked_for_and_none_ends_in_blanks(results):
    for width in (60, 80, 120):
        lines = text.render(results, width=width).splitlines()
        assert max(map(len, lines)) <= width
        assert all(line == line.rstrip() for line in lines)


def test_what_the_author_wrote_is_never_taken_for_markup(results, error):
    odd = replace(error, message="[red]x[/red] of [0]", function="[bold]F")
    outcome = replace(results.outcomes[0], report=replace(results.outcomes[0].report, findings=(odd,)))
    printed = text.render(replace(results, outcomes=(outcome,)))
    assert "[red]x[/red] of [0]" in printed
    assert "in [bold]F, argument weight" in printed


def test_a_long_script_is_shown_on_demand(results, error):
    long = replace(error, reproduce="import torch\n" * 40)
    outcome = replace(results.outcomes[0], report=replace(results.outcomes[0].report, findings=(long,)))
    results = replace(results, outcomes=(outcome,))
    assert "reproduce: a script of 40 lines, shown with --verbose" in text.render(results)
    assert text.render(results, verbose=True).count("import torch") == 40


def test_a_script_of_wide_lines_is_not_wrapped_unasked(results, error):
    wide = replace(error, reproduce=f"x = {[0.123456789] * 9}\n")
    outcome = replace(results.outcomes[0], report=replace(results.outcomes[0].report, findings=(wide,)))
    assert "a script of 1 line, shown" in text.render(replace(results, outcomes=(outcome,)))


def test_verbose_shows_notes_as_findings(results):
    assert "note[no-jvp] in Exp" in text.render(results, verbose=True)


def test_a_reason_is_given_once_for_all_checks_that_it_kept_from_being_made(results):
    skipped = tuple(Skipped("Linear", check, "the budget is spent") for check in ("layout", "subsets"))
    outcome = replace(results.outcomes[0], report=replace(results.outcomes[0].report, skipped=skipped))
    assert "Linear  layout, subsets: the budget is spent" in text.render(replace(results, outcomes=(outcome,)))


def test_colour_repeats_the_words_and_no_color_is_honoured(results, monkeypatch):
    def shown():
        page = io.StringIO()
        text.show(results, Console(file=page, force_terminal=True, width=80))
        return page.getvalue()

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[1;31merror[gradient-scale]" in shown()
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[1;31m" not in shown()


EXPECTED = """\
function   status      checks   inputs   seconds
────────────────────────────────────────────────
Linear     1 error          2        2       1.2
Exp        1 warning        2        2       1.2
Right      ok               2        2       1.2

error[gradient-scale] in Linear, argument weight
  backward returns 2x the derivative for `weight` in all 12 elements
  --> layers.py:4
      4 | def backward(ctx, grad):
  element  got      expected  ratio
  [0, 2]   1.23457  0.617284  2
  wrong            12 of 12 elements
  derivative from  autodiff of the forward itself, known to 1e-12
  advice           divide the gradient for `weight` by 2
  reproduce:
    import torch
    print('wrong')

warning[needless-save] in Exp, argument x
  `x` is saved and never read: 50% of it, at 2:1

Notes
  no-jvp  Exp: forward mode is refused: no `jvp`

Not looked at
  Linear  compile: no compiler was found

3 functions: 1 error, 1 warning, 1 note, in 3.8 s.
Other values, sizes and devices than these were not looked at.
What a code means: gradsmith explain gradient-scale
"""
