"""What came of a page: its answer, its body, and what it took."""

from __future__ import annotations

import time
from collections.abc import Hashable
from dataclasses import dataclass

from fastmesh.crawl.cache.answer import Answer
from fastmesh.crawl.fetch.body_budget import BodyShare
from fastmesh.telemetry.trace import Trace


@dataclass(slots=True)
class Fetched:
    """One page, filled in as far as its fetch got; also when fetch() raises, and then it may be fetched again.

    *final_url*, *status* and *content_type* are those of the last answer,
    whatever it was.  *body* is decoded and there only on success;
    *received_bytes* is its length on the wire.  *tries* is how often its fetch was
    begun, *began_at* when its last answer was asked for, or confirmed, in seconds since the epoch; of a try without an
    answer when that began.  *fetch_s* is the time of all
    tries without that of *enter*, *dns_s* what of it was spent waiting for names, and *spent_s*
    what is used of its time: the tries, the waits between them and for another's fetch of it.  *share* counts
    the body among all that are in memory, until it is let go.  *answer* is what the cache may keep documents with,
    *from_cache* whether the last answer came from there.
    Every request is a span below *trace*; its body is decoded in *client*'s turn.
    """

    url: str
    final_url: str | None = None
    status: int = 0
    content_type: str | None = None
    body: bytes = b""
    received_bytes: int = 0
    dns_s: float = 0.0
    fetch_s: float = 0.0
    tries: int = 0
    began_at: float = 0.0
    spent_s: float = 0.0
    share: BodyShare | None = None
    answer: Answer | None = None
    from_cache: bool = False
    asked: bool = False
    trace: Trace | None = None
    client: Hashable = None

    def begun(self) -> None:
        """An origin is asked for it, here or by another; with its redirects that is one try."""
        if not self.asked:
            self.asked = True
            self.tries += 1
            self.began_at = time.time()

    def let_go(self) -> None:
        """The body is needed no more."""
        self.body = b""
        self.answer = None
        if self.share is not None:
            self.share.give_back()
            self.share = None
