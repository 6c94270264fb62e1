"""What a person or a machine reads of a run: text, JSON, GitHub annotations, JUnit and HTML."""

from gradsmith.check.report.results import Outcome, Results
from gradsmith.check.report.text import render

__all__ = ["Outcome", "Results", "render"]
