"""Which grades of extraction there are: a request names one (Grade in spec.py), and a worker has this table.  A grade's
library is loaded when its first page comes.  Only a program of its own, a test's worker, has another table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Protocol

from fastmesh.crawl.extract.main_content import MainContent, read_main
from fastmesh.crawl.extract.page import Page


class Extractor(Protocol):
    """Reads the main content of a page that is stripped already, and may change its tree."""

    def __call__(self, page: Page, *, markdown: bool) -> MainContent:
        """May raise anything: that costs the page."""


Load = Callable[[], Extractor]


def _quality() -> Extractor:
    from fastmesh.crawl.extract.quality import read_main as read_well

    return read_well


EXTRACTORS: Final[Mapping[str, Load]] = {"fast": lambda: read_main, "quality": _quality}
