"""What brings pages, what it is asked for and what came of it, as the orchestrator and robots.txt need it.  The fetcher
is one; another source would stand beside it."""

from __future__ import annotations

import time
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Protocol

from fastmesh.crawl.cache.store import Answer
from fastmesh.crawl.fetch.body_budget import BodyShare
from fastmesh.crawl.fetch.deadline import Deadline
from fastmesh.crawl.options import CrawlOptions
from fastmesh.crawl.schedule.permit import Admission
from fastmesh.telemetry.trace import Trace


@dataclass(slots=True)
class PageRequest:
    """A page that is to be fetched, and what was done for it so far.

    *admission* gives leave to ask hosts; every request is a span below *trace*, and the body is decoded in *client*'s
    turn.  *tries* is how often its fetch was begun, *asked_at* when its last answer was asked for, or confirmed, in
    seconds since the epoch; of a try without an answer when that began.  *fetch_s* is the time of all tries without the
    waits for leave, *dns_s* what of it was spent waiting for names.
    """

    url: str
    options: CrawlOptions
    admission: Admission
    trace: Trace | None = None
    client: Hashable = None
    tries: int = 0
    asked_at: float = 0.0
    fetch_s: float = 0.0
    dns_s: float = 0.0
    deadline: Deadline = field(init=False)
    begun: bool = False

    def __post_init__(self) -> None:
        self.deadline = Deadline(self.options.timeout_ms / 1000)

    def begin(self) -> None:
        """An origin is asked for it, by this page or another; with its redirects that is one try."""
        if not self.begun:
            self.begun = True
            self.tries += 1
            self.asked_at = time.time()


@dataclass(slots=True)
class Fetched:
    """One page, filled in as far as its fetch got; also when that fails, and then it may be fetched again.

    *final_url*, *status* and *content_type* are those of the last answer, whatever it was, and *from_cache* whether
    it came from there.  *body* is decoded and there only on success; *received_bytes* is its length on the wire.
    *share* counts the body among all that are in memory, until it is let go.  *answer* is what the cache may keep
    documents with.
    """

    final_url: str | None = None
    status: int = 0
    content_type: str | None = None
    from_cache: bool = False
    body: bytes = b""
    received_bytes: int = 0
    share: BodyShare | None = None
    answer: Answer | None = None

    def begin(self) -> None:
        """Another try: nothing has come."""
        self.let_go()
        self.final_url, self.status, self.content_type = None, 0, None

    def let_go(self) -> None:
        """The body is needed no more."""
        self.body = b""
        self.answer = None
        if self.share is not None:
            self.share.give_back()
            self.share = None


class PageSource(Protocol):
    """Brings pages.  It waits for leave (``page.admission``) before it asks anybody, and for nothing past
    ``page.deadline``; the permit that it is given it spends or gives back."""

    async def fetch(self, page: PageRequest, fetched: Fetched) -> None:
        """Try once: fill *fetched* with *page*.  Raises the UrlError that says what went wrong."""
