"""The command line: `gradsmith check`, `gradsmith explain`."""

from gradsmith.cli.app import main

__all__ = ["main"]
