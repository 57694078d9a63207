"""The face of all grades of extraction: a page in, its main content as text and as Markdown out."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from fastmesh.crawl.extract.page import Page


class MainContent(NamedTuple):
    """The main content of a page; ``markdown`` only when it was asked for."""

    text: str
    markdown: str | None


class Extractor(Protocol):
    """Reads the main content of a page that is stripped already, and may change its tree."""

    def __call__(self, page: Page, *, markdown: bool) -> MainContent:
        """May raise anything: that costs the page."""
