"""A page that a test asks for, with leave to ask any host at once, and answers that are not there yet."""

from __future__ import annotations

from typing import Any

from fastmesh.crawl.cache.memory import MemoryStore
from fastmesh.crawl.fetch.answers import Answers
from fastmesh.crawl.fetch.page_source import Fetched, PageRequest, PageSource
from fastmesh.crawl.net.url import ParsedUrl
from fastmesh.crawl.options import CrawlOptions
from fastmesh.crawl.schedule.permit import Permit
from fastmesh.crawl.schedule.slots import Slots


def no_answers() -> Answers:
    """With a cache that is empty."""
    return Answers(MemoryStore(1 << 28), 3600)


class Free:
    """Gives leave at once."""

    def __init__(self) -> None:
        self.slots = Slots(1000, 1000)

    async def admit(self, url: ParsedUrl) -> Permit:
        """Leave for *url*."""
        return Permit(self.slots, url.host_key, self.slots.now(), None, await self.slots.total(self))

    def release(self) -> None:
        """It holds nothing."""


class Page:
    """What is asked for and what comes of it; it has the attributes of both."""

    def __init__(self, url: str, options: CrawlOptions) -> None:
        self.request = PageRequest(url, options, Free())
        self.fetched = Fetched()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.fetched, name) if hasattr(self.fetched, name) else getattr(self.request, name)

    async def come(self, source: PageSource) -> None:
        """Fetch it."""
        await source.fetch(self.request, self.fetched)
        assert self.request.admission.slots.in_flight == 0  # type: ignore[attr-defined]
