"""The grades of extraction behind one face: a page in, its main content as text and as Markdown out.

A grade's library is loaded when its first page comes.  Which grades there are is
written here and nowhere else: a request names one of these, a worker is given
this table, and only a program of its own (a test's worker) can be given another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, Protocol

from fastmesh.crawl.extract.page import Page


class Main(NamedTuple):
    """The main content of a page; ``markdown`` only when it was asked for."""

    text: str
    markdown: str | None


class Extractor(Protocol):
    """Reads the main content of a page that is stripped already, and may change its tree."""

    def __call__(self, page: Page, *, markdown: bool) -> Main:
        """May raise anything: that costs the page."""
        ...


def _fast() -> Extractor:
    from fastmesh.crawl.extract.grades.fast import read_main

    return read_main


def _quality() -> Extractor:
    from fastmesh.crawl.extract.grades.quality import read_main

    return read_main


EXTRACTORS: Final[Mapping[str, Callable[[], Extractor]]] = {"fast": _fast, "quality": _quality}
