"""The finding codes: a Markdown page each, which `gradsmith explain` prints."""

from gradsmith.check.codes.pages import CodeError, Page, codes, near, page, pages, unknown

__all__ = ["CodeError", "Page", "codes", "near", "page", "pages", "unknown"]
