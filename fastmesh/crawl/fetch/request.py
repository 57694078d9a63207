"""What is asked for: a page, and each request that its redirects make of it."""

from __future__ import annotations

import time
from collections.abc import Hashable
from dataclasses import dataclass, field

from multidict import CIMultiDict

from fastmesh.crawl.fetch.deadline import Deadline
from fastmesh.crawl.net.url import ParsedUrl
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
class Request:
    """One request for a page: what is *sent* to *url*, beside the cache's conditions.

    With *has_cookies* a cookie of this page's redirects is among it: the answer is nobody else's.
    """

    url: ParsedUrl
    sent: CIMultiDict[str]
    has_cookies: bool

    def headers(self) -> dict[str, str]:
        """What is sent, by names in lower case."""
        return {name.lower(): value for name, value in self.sent.items()}
