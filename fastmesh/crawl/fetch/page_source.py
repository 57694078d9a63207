"""What brings pages, as the orchestrator and robots.txt need it: the fetcher, or another source."""

from __future__ import annotations

from typing import Protocol

from fastmesh.crawl.fetch.fetched import Fetched
from fastmesh.crawl.fetch.request import PageRequest


class PageSource(Protocol):
    """Brings pages.  It waits for leave (``page.admission``) before it asks anybody, and for nothing past
    ``page.deadline``; the permit that it is given it spends or gives back."""

    async def fetch(self, page: PageRequest, fetched: Fetched) -> None:
        """Try once: fill *fetched* with *page*.  Raises the UrlError that says what went wrong."""
