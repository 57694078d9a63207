"""What came of a page."""

from __future__ import annotations

from dataclasses import dataclass

from fastmesh.crawl.cache.answer import Answer
from fastmesh.crawl.fetch.body_budget import BodyShare


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
