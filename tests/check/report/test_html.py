"""The web page: whole, safe, and readable without a mouse, a network or a script."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from gradsmith.check.measured import Saved, Taylor
from gradsmith.check.report import html
from gradsmith.check.report.evidence import MAP

VOID = {"meta", "rect", "polyline", "circle", "br", "link", "input"}


class Outline(HTMLParser):
    """Every tag with its attributes; complains where one is not closed."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.open, self.words = [], [], []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def measured(mapped):
    """The same with Taylor remainders and saved tensors."""
    steps = (0.1, 0.05, 0.025)
    extra = (
        Taylor("Linear", "weight", steps, (1e-1, 5e-2, 2.4e-2), 1.02),
        Taylor("Linear", "x", steps, (1e-3, 1.25e-4, 1.6e-5), 2.99),
        Saved("Linear", "mask", (3, 4), "bool", 12, "the graph is gone"),
    )
    first = mapped.outcomes[0]
    outcome = replace(first, report=replace(first.report, measured=extra))
    return replace(mapped, outcomes=(outcome, *mapped.outcomes[1:]))


@pytest.fixture
def mapped(results, error):
    """The results with a map of the errors, and with words that would break a careless page."""
    odd = replace(
        error,
        message="gives `<b>` & 'more' for `weight`",
        evidence={**error.evidence, MAP: {"shape": [2, 2], "block": [1, 1], "worst": [[0.0, 0.5], [None, 1e-3]]}},
    )
    outcome = replace(results.outcomes[0], report=replace(results.outcomes[0].report, findings=(odd,)))
    return replace(results, outcomes=(outcome, *results.outcomes[1:]), problems=("a.py raised <odd>",))


def test_the_page_needs_nothing_from_elsewhere_and_runs_no_script(mapped):
    page = html.render(mapped)
    assert Outline(page).all("script") == []
    assert not re.search(r"(src|href)=\"(?!#)|url\(|@import", page)


def test_the_summary_links_to_a_section_for_each_function(mapped):
    page = Outline(html.render(mapped))
    links = [a["href"][1:] for a in page.all("a")]
    assert links == [section["id"] for section in page.all("section")]
    assert len(links) == 3


def test_the_finding_stands_beside_its_source_line(mapped):
    page = html.render(mapped)
    assert re.search(r'class="fault"><span class="number">   4 &gt; </span>    def backward\(ctx, grad\):', page)
    assert "return 2 * grad  # &lt;wrong&gt;" in page


def test_words_of_the_author_are_text_and_backticks_are_code(mapped):
    page = html.render(mapped)
    assert "gives <code>&lt;b&gt;</code> &amp; &#39;more&#39; for <code>weight</code>" in page
    assert "a.py raised &lt;odd&gt;" in page


def test_the_heat_map_has_a_cell_an_element_and_says_in_words_what_it_shows(mapped):
    page = Outline(html.render(mapped))
    picture = next(svg for svg in page.all("svg") if svg.get("role") == "img")
    assert picture["aria-label"] == "relative error over shape (2, 2): 2 of 4 cells wrong"
    cells = [rect["class"] for rect in page.all("rect") if "x" in rect]
    assert cells == ["x0", "x5", "unknown", "x2"]


def test_taylor_remainders_are_drawn_and_their_slopes_said(measured):
    page = Outline(html.render(measured))
    assert "weight : slope 1.02: it is another" in page.text
    assert "x : slope 2.99: the gradient is right" in page.text
    lines = [line["points"] for line in page.all("polyline") if line["points"] != "0,4 18,4"]  # but for the legend
    assert len(lines) == 2
    points = [tuple(map(float, pair.split(","))) for pair in lines[0].split()]
    assert points == sorted(points, reverse=True, key=lambda p: p[0])
    assert all(0 <= x <= 300 and 0 <= y <= 180 for x, y in points)


def test_saved_tensors_are_listed_with_size_and_lifetime(measured):
    assert "mask 3 x 4 bool 12 the graph is gone" in Outline(html.render(measured)).text


def test_everything_that_scrolls_can_be_reached_by_keyboard(mapped):
    page = Outline(html.render(mapped))
    assert all(block.get("tabindex") == "0" for block in page.all("pre"))


def test_phone_and_dark_mode_are_provided_for(mapped):
    page = html.render(mapped)
    assert 'content="width=device-width, initial-scale=1"' in page
    assert "prefers-color-scheme: dark" in page


def test_what_was_not_looked_at_is_said(results):
    assert "Not looked at: compile : no compiler was found" in Outline(html.render(results)).text


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
@pytest.mark.parametrize("width", [500, 1280])
def test_in_a_browser_nothing_is_wider_than_the_window(measured, tmp_path, width):
    probe = "<script>document.title = 'overflow ' + (document.documentElement.scrollWidth > innerWidth)</script></body>"
    page = tmp_path / "page.html"
    page.write_text(html.render(measured).replace("</body>", probe))
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    command = ["chromium", *flags.split(), "--disable-component-update", "--disable-sync"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},900", "--dump-dom", page.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    assert "<title>overflow false</title>" in shown
